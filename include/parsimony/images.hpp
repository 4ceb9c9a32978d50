// Images with classes: the digits of MNIST (IDX files) and of UCI's optdigits.
#pragma once

#include <parsimony/batching.hpp>

#include <string>
#include <vector>

namespace parsimony {

/// (n, 1, rows, columns) of an IDX file of bytes: big-endian 2051, n, rows, columns, then the
/// pixels, which come out in [-1, 1]. @throws InputError naming the file on another header or size.
Tensor<float> read_idx_images(const std::string& path);
/// n classes of an IDX file: big-endian 2049, n, then bytes. @throws InputError as above.
std::vector<double> read_idx_labels(const std::string& path);
/// optdigits' lines of 64 pixels 0..16 and a class 0..9, parted by commas: (n, 1, 8, 8) in [-1, 1].
/// @throws InputError naming file and line.
EncodedExamples read_optdigits(const std::string& path);

/// Images without classes (n, channels, rows, columns), by what the file begins with: a .npy array
/// of that shape or (n, rows, columns), taken as it is; an IDX file of bytes; else optdigits'
/// lines. "-" is the standard input. @throws InputError naming the file.
Tensor<float> read_images(const std::string& path);

/// A task on images with its examples.
struct ImageSplits {
  TextTask task;
  EncodedExamples train, dev;
};

/// "mnist" (10,000 digits of the training set, the 10,000 of the test set) and "optdigits" (3,823
/// and 1,797). Files are looked up below `data_dir`, $PARSIMONY_DATA or ./data.
const std::vector<std::string>& image_task_names();
/// @throws ValueError on an unknown name; MissingData naming the file; InputError on a file that is
/// not as described.
ImageSplits load_image_task(const std::string& name, const std::string& data_dir = "");

}  // namespace parsimony
