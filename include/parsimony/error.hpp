// The errors that Parsimony throws. A message reads "op: what was expected; got what (where);
// hint". The command line turns them into exit codes: InputError, ValueError and ShapeError are the
// user's input (2), NumericalError is a divergence (3), Interrupted is Ctrl-C (130), the rest a
// failure (1).
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace parsimony {

/// Base of every error thrown by the library.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Shapes that do not fit an operation.
class ShapeError : public Error {
 public:
  using Error::Error;
};

/// A value outside its range: an unknown key, a negative size, a rank above the matrix's sides.
class ValueError : public Error {
 public:
  using Error::Error;
};

/// A file handed in by the user is missing or malformed; the message names file and line.
class InputError : public Error {
 public:
  using Error::Error;
};

/// Real data that is needed is not there: an experiment without it is "not run".
class MissingData : public InputError {
 public:
  using InputError::InputError;
};

/// The operating system refused: unwritable folder, full disk, failed read.
class IoError : public Error {
 public:
  using Error::Error;
};

/// A quantity became NaN or infinite, or a decomposition did not converge.
class NumericalError : public Error {
 public:
  explicit NumericalError(const std::string& message, std::int64_t step = -1)
      : Error(message), step_(step) {}
  /// Iteration at which it appeared; -1 where there is none.
  std::int64_t step() const { return step_; }

 private:
  std::int64_t step_;
};

/// The run was asked to stop (Ctrl-C) and has saved its state.
class Interrupted : public Error {
 public:
  using Error::Error;
};

}  // namespace parsimony
