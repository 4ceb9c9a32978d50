// What a user names to be read: files, folders and texts. What is not there, is of another kind or
// is no text is refused here, in one wording: which path, what was expected, what is there.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace parsimony {

/// What messages call a path: "stdin" for "-".
std::string input_name(const std::string& path);

/// @throws InputError unless `path` is a folder: "'rnus': expected a model folder; it does not
/// exist, did you mean 'runs'?", "'a.txt': expected a model folder; got a file". `expected` may go
/// on with what else is taken; of `names`, which stand for no folder, the nearest is proposed too.
void check_folder(const std::string& path, const std::string& expected = "a folder",
                  const std::vector<std::string>& names = {});

/// @throws InputError unless something is at `path`, in the same words.
void check_exists(const std::string& path, const std::string& expected = "a file or a folder",
                  const std::vector<std::string>& names = {});

/// Whether a folder is a run's: its config.json names an experiment and is no model's.
bool is_run_folder(const std::string& folder);

/// Where the model of a folder is: `given`, or the model/ in it if that is a run's. What is no run
/// is given back as it is, whether it is there or not. @throws InputError on a run without a model.
std::string model_folder(const std::string& given);

/// Keeps what is read from being written over or removed. @throws InputError if `out` is a file;
/// ValueError if one of the files and folders `read` ("" for none) is `out`, a file in it, or in
/// its model/, adapter/ or checkpoint/.
void check_output_folder(const std::string& out, const std::vector<std::string>& read);

/// A descriptor of a file, a pipe or a device that is open for reading; "-" is a copy of the
/// standard input. @throws InputError if it is missing, a folder or not readable.
int open_input(const std::string& path);

/// Refuses what is no text: "'a.txt': line 3, byte 8: expected UTF-8; got 0xFF", or a NUL byte.
/// `first_line` is the number of the first line of `text`. @throws InputError.
void check_text(const std::string& name, std::string_view text, std::int64_t first_line = 1);

/// Its two halves: where a NUL byte is a character to drop, as for BERT's tokenizer, and for text
/// in any encoding. @throws InputError.
void check_utf8(const std::string& name, std::string_view text, std::int64_t first_line = 1);
void check_no_nul(const std::string& name, std::string_view text, std::int64_t first_line = 1);

/// The text of a file, or of the standard input for "-". @throws InputError as open_input and
/// check_text; IoError if reading fails half-way.
std::string read_text(const std::string& path);

}  // namespace parsimony
