// Reverse-mode differentiation: variables, the tape they form, and backward.
//
// A Var is a handle on a node: its value, the op that made it and the nodes that op read. Nodes
// carry creation ids, so a reverse topological order is "reachable, by descending id", found
// without recursion. backward() frees each node's pullback and inputs as it passes, so memory falls
// as it goes and a second backward on the same graph is an error. Nothing is recorded, and no
// pullback runs, for inputs that need no gradient.
//
// A new op, anywhere, is a value and a pullback:
//
//   template <class T> Var<T> square(const Var<T>& x) {
//     return make_op("square", mul(x.value(), x.value()), {x},
//                    [x = x.value()](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
//                      d.add(0, [&] { return scale(mul(x, dy), 2.0); });
//                    });
//   }
//
// The engine sums what is added back to the input's broadcast shape and checks it.
#pragma once

#include <parsimony/tensor.hpp>

#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace parsimony {

template <class T>
class Var;

namespace detail {
template <class T>
struct Node;
template <class T>
using NodePtr = std::shared_ptr<Node<T>>;
}  // namespace detail

/// What a pullback adds its results to: one slot per input of the op.
template <class T>
class Gradients {
 public:
  explicit Gradients(detail::Node<T>& node) : node_(node) {}
  /// True if input i needs a gradient.
  bool needs(std::size_t i) const;
  /// Adds compute() to the gradient of input i; not called if the input needs none.
  template <class Compute>
  void add(std::size_t i, Compute&& compute) {
    if (needs(i)) accumulate(i, compute());
  }

 private:
  void accumulate(std::size_t i, Tensor<T> gradient);
  detail::Node<T>& node_;
};

namespace detail {

/// An input of an op and the version of its buffer when the op ran.
template <class T>
struct Input {
  NodePtr<T> node;
  std::uint32_t version = 0;
};

/// The inputs of a node: up to three in place, so that a node is one allocation.
template <class T>
class InputList {
 public:
  void assign(const Var<T>* inputs, std::size_t count);
  std::size_t size() const { return count_; }
  Input<T>* begin() { return count_ <= inline_count ? few_ : many_.get(); }
  Input<T>* end() { return begin() + count_; }
  Input<T>& operator[](std::size_t i) { return begin()[i]; }
  void clear();

 private:
  static constexpr std::size_t inline_count = 3;
  Input<T> few_[inline_count];
  std::unique_ptr<Input<T>[]> many_;
  std::size_t count_ = 0;
};

template <class T>
struct Node {
  Node();
  virtual ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  /// Runs the pullback. Leaves have none.
  virtual void pull(Gradients<T>&) {}
  /// Destroys the pullback and with it the values it kept.
  virtual void free_pullback() {}

  const char* op = "leaf";
  std::uint64_t id;
  std::uint64_t visit = 0;  // mark of the last backward that reached this node
  Tensor<T> value;
  Tensor<T> grad;
  InputList<T> inputs;
  bool requires_grad = false;
  bool is_leaf = true;
  bool retain_grad = false;
  bool freed = false;
};

template <class T, class Pullback>
struct OpNode final : Node<T> {
  explicit OpNode(Pullback&& p) : pullback(std::move(p)) {}
  explicit OpNode(const Pullback& p) : pullback(p) {}
  ~OpNode() override { OpNode::free_pullback(); }
  void pull(Gradients<T>& d) override { pullback(this->value, this->grad, d); }
  void free_pullback() override {
    if (alive) {
      alive = false;
      pullback.~Pullback();
    }
  }
  union {
    Pullback pullback;  // destroyed early, when backward has passed
  };
  bool alive = true;
};

[[noreturn]] void throw_undefined();
[[noreturn]] void throw_undefined_value(const char* op);

template <class T>
void attach(Node<T>& node, const char* op, const Var<T>* inputs, std::size_t count);
template <class T>
void check_op_value(const char* op, const Tensor<T>& value);

}  // namespace detail

/// A value in a graph. Copying copies the handle.
template <class T>
class Var {
 public:
  Var() = default;
  /// A leaf: an input, or with requires_grad a parameter. @throws ValueError if the value is
  /// undefined.
  explicit Var(Tensor<T> value, bool requires_grad = false);

  bool defined() const { return node_ != nullptr; }
  /// @throws ValueError if the variable is undefined (a parameter that was never registered), as
  /// do the members below.
  const Tensor<T>& value() const { return get().value; }
  const Shape& shape() const { return value().shape(); }
  index_t dim(int axis) const { return value().dim(axis); }
  int rank() const { return value().rank(); }
  T item() const { return value().item(); }
  bool requires_grad() const { return node_ && node_->requires_grad; }
  /// For leaves: freeze or thaw. @throws ValueError on the result of an op.
  void set_requires_grad(bool value);
  /// Accumulated gradient; undefined before the first backward.
  const Tensor<T>& grad() const { return get().grad; }
  bool has_grad() const { return node_ && node_->grad.defined(); }
  void zero_grad() { get().grad = Tensor<T>(); }
  /// Keep the gradient of a value that is not a leaf.
  void retain_grad() { get().retain_grad = true; }
  /// The same value as a leaf that needs no gradient.
  Var detach() const { return Var(value()); }
  /// Replaces the value of a leaf (loading a checkpoint). @throws ShapeError if the shape differs,
  /// ValueError if the new value is undefined.
  void assign(const Tensor<T>& value);
  /// For optimisers: the buffer of a leaf, opened for writing.
  T* mutable_data() { return get().value.mutable_data(); }
  /// Name of the op that made it; "leaf" for leaves.
  const char* op() const { return get().op; }
  bool is_leaf() const { return get().is_leaf; }

  const detail::NodePtr<T>& node() const { return node_; }
  explicit Var(detail::NodePtr<T> node) : node_(std::move(node)) {}

 private:
  detail::Node<T>& get() const {
    if (!node_) detail::throw_undefined();
    return *node_;
  }
  detail::NodePtr<T> node_;
};

/// True unless a NoGrad is alive on this thread.
bool grad_enabled();

/// While alive, ops record nothing on this thread.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool previous_;
};

/// When on, every op's value and every gradient is checked, and the first non-finite one throws a
/// NumericalError with the op's name.
void set_debug(bool on);
bool debug();

/// Records an op: its value, its inputs, and a pullback
/// `void(const Tensor<T>& y, const Tensor<T>& dy, Gradients<T>& d)`.
/// The pullback is given the op's own value, so that it never has to hold it.
/// @throws ValueError if the value is undefined.
template <class T, class Pullback>
Var<T> make_op(const char* op, Tensor<T> value, const Var<T>* inputs, std::size_t count,
               Pullback&& pullback);
template <class T, class Pullback>
Var<T> make_op(const char* op, Tensor<T> value, std::initializer_list<Var<T>> inputs,
               Pullback&& pullback) {
  return make_op(op, std::move(value), inputs.begin(), inputs.size(),
                 std::forward<Pullback>(pullback));
}

/// Accumulates d(loss)/d(leaf) into every leaf that requires it, and frees the graph.
/// @throws ShapeError unless the loss has one element; ValueError if nothing requires a gradient,
/// if the graph was freed, or if a value was overwritten since the forward pass; NumericalError on
/// non-finite gradients when debug() is on.
template <class T>
void backward(const Var<T>& loss);
/// The same from a value of any shape, with its upstream gradient.
template <class T>
void backward(const Var<T>& output, const Tensor<T>& upstream);

/// The graph below `output` in Graphviz's DOT language: ops, shapes, and names of leaves if given.
template <class T>
std::string to_dot(const Var<T>& output,
                   const std::vector<std::pair<std::string, Var<T>>>& names = {});

/// Live nodes of both types, for leak tests.
std::int64_t live_nodes();

// --- Implementation of the templates over the pullback's type. ----------------------------------

template <class T, class Pullback>
Var<T> make_op(const char* op, Tensor<T> value, const Var<T>* inputs, std::size_t count,
               Pullback&& pullback) {
  if (!value.defined()) detail::throw_undefined_value(op);
  if (debug()) detail::check_op_value(op, value);
  bool needed = false;
  if (grad_enabled()) {
    for (std::size_t i = 0; i < count; ++i) needed = needed || inputs[i].requires_grad();
  }
  if (!needed) {
    Var<T> result(std::move(value));
    result.node()->op = op;
    return result;
  }
  using Closure = std::decay_t<Pullback>;
  auto node = std::make_shared<detail::OpNode<T, Closure>>(std::forward<Pullback>(pullback));
  node->value = std::move(value);
  detail::attach(*node, op, inputs, count);
  return Var<T>(detail::NodePtr<T>(std::move(node)));
}

}  // namespace parsimony
