// One array in NumPy's .npy format, versions 1.0 and 2.0.
#pragma once

#include <parsimony/tensor.hpp>

#include <string>

namespace parsimony {

/// Writes float ('<f4'), double ('<f8') or std::int64_t ('<i8'), row-major, whole or not at all.
/// @throws IoError.
template <class T>
void save_npy(const std::string& path, const Tensor<T>& tensor);

/// Reads an array whose type is exactly T's; NaN and infinity are values like others.
/// @throws InputError naming the file if it is not a whole .npy file of that type, or is in Fortran
/// or big-endian order.
template <class T>
Tensor<T> load_npy(const std::string& path);

/// Reads '<f8', '<f4', '<i8', '<i4', '|u1' or '|b1' and converts to T (float or double).
template <class T>
Tensor<T> load_npy_as(const std::string& path);
/// The same from the file's bytes; `name` is for messages.
template <class T>
Tensor<T> parse_npy_as(const std::string& name, std::string bytes);

}  // namespace parsimony
