// The tape: nodes by creation id, and backward over the reachable ones by descending id.
#include <parsimony/error.hpp>
#include <parsimony/variable.hpp>

#include <algorithm>
#include <atomic>
#include <unordered_map>

#include <fmt/format.h>

#include "kernels/parallel.hpp"

namespace parsimony {

namespace {

thread_local bool recording = true;
std::atomic<bool> debugging{false};
std::atomic<std::int64_t> node_count{0};
std::atomic<std::uint64_t> last_id{0};
std::atomic<std::uint64_t> last_visit{0};

/// Where nodes wait that are released while another release is under way, so that dropping the end
/// of a long chain does not recurse through it. A plain pointer: nodes in static storage may
/// outlive a thread's objects.
template <class T>
thread_local std::vector<detail::NodePtr<T>>* waiting_nodes = nullptr;

/// Moves the inputs that nobody else owns to `waiting`.
template <class T>
void take_last_owned(detail::InputList<T>& inputs, std::vector<detail::NodePtr<T>>& waiting) {
  for (auto& input : inputs) {
    // Taken out one by one: of an input that is there twice, the second is the last owner.
    detail::NodePtr<T> node = std::move(input.node);
    if (node && node.use_count() == 1) waiting.push_back(std::move(node));
  }
  inputs.clear();
}

template <class T>
void release(detail::InputList<T>& inputs) {
  if (waiting_nodes<T> != nullptr) {
    take_last_owned(inputs, *waiting_nodes<T>);
    return;
  }
  std::vector<detail::NodePtr<T>> waiting;
  take_last_owned(inputs, waiting);
  waiting_nodes<T> = &waiting;
  while (!waiting.empty()) {
    const detail::NodePtr<T> node = std::move(waiting.back());
    waiting.pop_back();
  }
  waiting_nodes<T> = nullptr;
}

/// Adds into `total`, in place where nobody else sees its buffer.
template <class T>
void add_into(Tensor<T>& total, const Tensor<T>& gradient) {
  if (!total.unique()) {
    total = add(total, gradient);
    return;
  }
  T* t = total.mutable_data();
  const T* g = gradient.data();
  kernels::parallel_for(total.size(), 1, [=](index_t first, index_t last) {
    for (index_t i = first; i < last; ++i) t[i] += g[i];
  });
}

/// Nodes that need a gradient and can reach `root`, newest first.
template <class T>
std::vector<detail::NodePtr<T>> reverse_order(const detail::NodePtr<T>& root) {
  const std::uint64_t mark = ++last_visit;
  std::vector<detail::NodePtr<T>> nodes{root};
  root->visit = mark;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (auto& input : nodes[i]->inputs) {
      if (input.node->requires_grad && input.node->visit != mark) {
        input.node->visit = mark;
        nodes.push_back(input.node);
      }
    }
  }
  std::sort(nodes.begin(), nodes.end(), [](const auto& a, const auto& b) { return a->id > b->id; });
  return nodes;
}

template <class T>
void check_versions(detail::Node<T>& node) {
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const auto& input = node.inputs[i];
    if (input.node->value.version() != input.version) {
      throw ValueError(fmt::format(
          "backward: input {} of {} was overwritten after the forward pass (an optimiser step?); "
          "run the forward pass again",
          i, node.op));
    }
  }
}

/// If a pullback throws, what arrived at the values that it did not reach must not be there when
/// another backward comes through them.
template <class T>
class ClearOnError {
 public:
  explicit ClearOnError(const std::vector<detail::NodePtr<T>>& nodes) : nodes_(nodes) {}
  ~ClearOnError() {
    for (const auto& node : nodes_) {
      if (node && !node->is_leaf) node->grad = Tensor<T>();
    }
  }
  ClearOnError(const ClearOnError&) = delete;
  ClearOnError& operator=(const ClearOnError&) = delete;

 private:
  const std::vector<detail::NodePtr<T>>& nodes_;
};

template <class T>
void run_backward(const Var<T>& output, const Tensor<T>& upstream) {
  detail::Node<T>* root = output.node().get();
  if (!root->requires_grad) {
    throw ValueError(fmt::format(
        "backward: expected a value that depends on a leaf with requires_grad; {} depends on none "
        "(or was computed under NoGrad)",
        root->op));
  }
  // The worklist owns its nodes one by one, so that values go as soon as they were used.
  auto nodes = reverse_order(output.node());
  for (const auto& node : nodes) {
    if (node->freed) {
      throw ValueError(fmt::format(
          "backward: the graph through {} was freed by an earlier backward; run the forward pass "
          "again, or add the losses and call backward once",
          node->op));
    }
    check_versions(*node);  // before anything was freed or accumulated
  }
  if (root->grad.defined()) {
    add_into(root->grad, upstream);
  } else {
    root->grad = upstream;
  }
  const ClearOnError<T> guard(nodes);
  for (auto& owner : nodes) {
    if (owner->is_leaf) {
      owner.reset();
      continue;
    }
    const detail::NodePtr<T>& node = owner;
    if (node->grad.defined()) {
      if (debug() && !all_finite(node->grad)) {
        throw NumericalError(fmt::format("backward: the gradient of {} is not finite", node->op));
      }
      Gradients<T> gradients(*node);
      node->pull(gradients);
    }
    node->free_pullback();
    node->freed = true;
    node->inputs.clear();
    if (!node->retain_grad) node->grad = Tensor<T>();
    owner.reset();
  }
}

}  // namespace

namespace detail {

template <class T>
void InputList<T>::assign(const Var<T>* inputs, std::size_t count) {
  count_ = count;
  if (count > inline_count) many_ = std::make_unique<Input<T>[]>(count);
  Input<T>* slots = begin();
  for (std::size_t i = 0; i < count; ++i) {
    slots[i] = {inputs[i].node(), inputs[i].value().version()};
  }
}

template <class T>
void InputList<T>::clear() {
  for (Input<T>& input : *this) input.node.reset();
  many_.reset();
  count_ = 0;
}

template <class T>
Node<T>::Node() : id(++last_id) {
  ++node_count;
}

template <class T>
Node<T>::~Node() {
  release(inputs);
  --node_count;
}

template <class T>
void attach(Node<T>& node, const char* op, const Var<T>* inputs, std::size_t count) {
  node.op = op;
  node.requires_grad = true;
  node.is_leaf = false;
  node.inputs.assign(inputs, count);
}

template <class T>
void check_op_value(const char* op, const Tensor<T>& value) {
  if (!all_finite(value)) {
    throw NumericalError(
        fmt::format("{}: its value has a NaN or an infinity (shape {})", op, value.shape().str()));
  }
}

}  // namespace detail

template <class T>
bool Gradients<T>::needs(std::size_t i) const {
  if (i >= node_.inputs.size()) {
    throw ValueError(fmt::format("{}: its pullback adds to input {}; it has {}", node_.op, i,
                                 node_.inputs.size()));
  }
  return node_.inputs[i].node->requires_grad;
}

template <class T>
void Gradients<T>::accumulate(std::size_t i, Tensor<T> gradient) {
  detail::Node<T>& input = *node_.inputs[i].node;
  const Shape& shape = input.value.shape();
  if (!gradient.defined()) {
    throw ValueError(
        fmt::format("{}: its pullback gave an undefined gradient for input {}", node_.op, i));
  }
  if (debug() && !all_finite(gradient)) {
    throw NumericalError(
        fmt::format("backward: {} gives its input {} a gradient that is not finite", node_.op, i));
  }
  if (gradient.shape() != shape) {
    const Shape both = broadcast_shape(node_.op, gradient.shape(), shape);
    if (both != gradient.shape()) {
      throw ShapeError(fmt::format("{}: pullback gave shape {} for input {} of shape {}", node_.op,
                                   gradient.shape().str(), i, shape.str()));
    }
    gradient = sum_to(gradient, shape);
  }
  if (input.grad.defined()) {
    add_into(input.grad, gradient);
  } else {
    input.grad = std::move(gradient);
  }
}

template <class T>
Var<T>::Var(Tensor<T> value, bool requires_grad) : node_(std::make_shared<detail::Node<T>>()) {
  if (!value.defined()) detail::throw_undefined_value("variable");
  node_->value = std::move(value);
  node_->requires_grad = requires_grad;
}

template <class T>
void Var<T>::set_requires_grad(bool value) {
  if (!get().is_leaf) {
    throw ValueError(
        fmt::format("set_requires_grad: expected a leaf; got the result of {}; use "
                    "detach()",
                    node_->op));
  }
  node_->requires_grad = value;
}

template <class T>
void Var<T>::assign(const Tensor<T>& value) {
  if (!get().is_leaf || value.shape() != shape()) {
    throw ShapeError(fmt::format("assign: expected shape {} into a leaf; got {} into {}",
                                 shape().str(), value.shape().str(), node_->op));
  }
  std::copy(value.begin(), value.end(), node_->value.mutable_data());
}

void detail::throw_undefined() {
  throw ValueError(
      "variable: it is undefined; was it assigned, or its parameter registered with "
      "this->parameter(...)?");
}

void detail::throw_undefined_value(const char* op) {
  throw ValueError(
      fmt::format("{}: its value is undefined; a default-constructed tensor has none", op));
}

bool grad_enabled() { return recording; }

NoGrad::NoGrad() : previous_(recording) { recording = false; }
NoGrad::~NoGrad() { recording = previous_; }

void set_debug(bool on) { debugging = on; }
bool debug() { return debugging.load(std::memory_order_relaxed); }

std::int64_t live_nodes() { return node_count; }

template <class T>
void backward(const Var<T>& loss) {
  if (loss.value().size() != 1) {
    throw ShapeError(fmt::format(
        "backward: expected a scalar loss; got shape {} from {}; reduce it with sum or mean, or "
        "give the upstream gradient",
        loss.shape().str(), loss.op()));
  }
  run_backward(loss, Tensor<T>::ones(loss.shape()));
}

template <class T>
void backward(const Var<T>& output, const Tensor<T>& upstream) {
  if (!upstream.defined()) throw ValueError("backward: the upstream gradient is undefined");
  if (upstream.shape() != output.shape()) {
    throw ShapeError(fmt::format("backward: upstream gradient has shape {}; the value has {}",
                                 upstream.shape().str(), output.shape().str()));
  }
  run_backward(output, upstream);
}

namespace {

/// Text within the quotes of DOT.
std::string dot_text(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return out;
}

}  // namespace

template <class T>
std::string to_dot(const Var<T>& output, const std::vector<std::pair<std::string, Var<T>>>& names) {
  std::unordered_map<const detail::Node<T>*, std::string> name_of;
  for (const auto& [name, var] : names) name_of[var.node().get()] = name;
  std::string out = "digraph tape {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n";
  if (!output.defined()) detail::throw_undefined();
  std::vector<detail::Node<T>*> nodes{output.node().get()};
  const std::uint64_t mark = ++last_visit;
  nodes[0]->visit = mark;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    detail::Node<T>* node = nodes[i];
    const auto found = name_of.find(node);
    const char* style = !node->is_leaf        ? "shape=ellipse"
                        : node->requires_grad ? "shape=box, style=filled, fillcolor=\"#cfe2f3\""
                                              : "shape=box";
    out += fmt::format("  n{} [label=\"{}\\n{}\", {}];\n", node->id,
                       dot_text(found != name_of.end() ? found->second : node->op),
                       node->value.shape().str(), style);
    for (auto& input : node->inputs) {
      out += fmt::format("  n{} -> n{};\n", input.node->id, node->id);
      if (input.node->visit != mark) {
        input.node->visit = mark;
        nodes.push_back(input.node.get());
      }
    }
  }
  return out + "}\n";
}

#define PARSIMONY_INSTANTIATE(T)                                                           \
  template class Gradients<T>;                                                             \
  template class Var<T>;                                                                   \
  template class detail::InputList<T>;                                                     \
  template struct detail::Node<T>;                                                         \
  template void detail::attach(detail::Node<T>&, const char*, const Var<T>*, std::size_t); \
  template void detail::check_op_value(const char*, const Tensor<T>&);                     \
  template void backward(const Var<T>&);                                                   \
  template void backward(const Var<T>&, const Tensor<T>&);                                 \
  template std::string to_dot(const Var<T>&, const std::vector<std::pair<std::string, Var<T>>>&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
