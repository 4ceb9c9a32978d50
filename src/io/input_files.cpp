#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/input_files.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/nlohmann.hpp"

namespace parsimony {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse_missing(const std::string& path, const std::string& expected,
                                 const std::vector<std::string>& names) {
  std::vector<std::string> known = names;
  const fs::path folder = fs::path(path).parent_path();
  std::error_code error;
  for (fs::directory_iterator at(folder.empty() ? "." : folder, error), end; !error && at != end;
       at.increment(error)) {
    known.push_back((folder / at->path().filename()).string());
  }
  std::sort(known.begin(), known.end());
  const std::string near = nearest_name(path, known);
  throw InputError(fmt::format("'{}': expected {}; it does not exist{}", path, expected,
                               near.empty() ? "" : fmt::format(", did you mean '{}'?", near)));
}

[[noreturn]] void refuse_unreadable(const std::string& path, int error) {
  throw InputError(
      fmt::format("'{}': cannot be read: {}", path, std::generic_category().message(error)));
}

bool is_missing(int error) { return error == ENOENT || error == ENOTDIR; }

struct stat status_of(const std::string& path, const std::string& expected,
                      const std::vector<std::string>& names) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    if (is_missing(errno)) refuse_missing(path, expected, names);
    refuse_unreadable(path, errno);
  }
  return info;
}

/// "line 3, byte 8", both counted from 1.
std::string place_of(std::string_view text, std::size_t at, std::int64_t first_line) {
  const std::string_view before = text.substr(0, at);
  const std::size_t start = before.rfind('\n') + 1;  // npos + 1 is 0
  return fmt::format("line {}, byte {}",
                     first_line + std::count(before.begin(), before.end(), '\n'), at - start + 1);
}

}  // namespace

std::string input_name(const std::string& path) { return path == "-" ? "stdin" : path; }

void check_folder(const std::string& path, const std::string& expected,
                  const std::vector<std::string>& names) {
  if (S_ISDIR(status_of(path, expected, names).st_mode)) return;
  throw InputError(fmt::format("'{}': expected {}; got a file", path, expected));
}

void check_exists(const std::string& path, const std::string& expected,
                  const std::vector<std::string>& names) {
  status_of(path, expected, names);
}

bool is_run_folder(const std::string& folder) {
  const fs::path config = fs::path(folder) / "config.json";
  std::error_code error;
  if (!fs::is_regular_file(config, error)) return false;
  const auto json = nlohmann::json::parse(read_file(config.string()), nullptr, false);
  return json.is_object() && json.contains("experiment");
}

std::string model_folder(const std::string& given) {
  const fs::path folder(given);
  std::error_code error;
  if (fs::exists(folder / "model.safetensors", error)) return given;
  if (fs::exists(folder / "model" / "model.safetensors", error)) return (folder / "model").string();
  if (!is_run_folder(given)) return given;
  const bool adapter = fs::exists(folder / "adapter" / "adapter_config.json", error);
  throw InputError(fmt::format("'{}': expected a model folder; got a run without model/: {}", given,
                               adapter ? "its adapter is named with --adapter"
                                       : "one that is not done goes on with --resume"));
}

void check_output_folder(const std::string& out, const std::vector<std::string>& read) {
  std::error_code error;
  if (fs::exists(out, error)) check_folder(out);
  const fs::path whole = fs::weakly_canonical(out, error);
  for (const std::string& given : read) {
    if (given.empty() || given == "-") continue;
    const fs::path path = fs::canonical(given, error);
    if (error) continue;  // whoever reads it says what is wrong
    const fs::path inside = path.lexically_relative(whole);
    const std::string first = inside.empty() ? ".." : inside.begin()->string();
    const bool file = std::distance(inside.begin(), inside.end()) == 1 && !fs::is_directory(path);
    if (first == ".") {
      throw ValueError(fmt::format("--out: '{}' is what is read; choose another folder", out));
    }
    if (file || first == "model" || first == "adapter" || first == "checkpoint") {
      throw ValueError(
          fmt::format("--out: '{}' holds what is read, '{}'; choose another folder", out, given));
    }
  }
}

int open_input(const std::string& path) {
  const int fd = path == "-" ? ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
                             : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const int error = errno;
  if (fd < 0 && is_missing(error)) refuse_missing(path, "a file", {});
  if (fd < 0) refuse_unreadable(input_name(path), error);
  struct stat info {};
  if (::fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) {
    ::close(fd);
    throw InputError(fmt::format("'{}': expected a file; got a folder", input_name(path)));
  }
  return fd;
}

void check_text(const std::string& name, std::string_view text, std::int64_t first_line) {
  check_no_nul(name, text, first_line);
  check_utf8(name, text, first_line);
}

void check_utf8(const std::string& name, std::string_view text, std::int64_t first_line) {
  const std::size_t bad = find_invalid_utf8(text);
  if (bad == std::string_view::npos) return;
  throw InputError(fmt::format("'{}': {}: expected UTF-8; got 0x{:02X}", name,
                               place_of(text, bad, first_line),
                               static_cast<unsigned char>(text[bad])));
}

void check_no_nul(const std::string& name, std::string_view text, std::int64_t first_line) {
  const std::size_t nul = text.find('\0');
  if (nul == std::string_view::npos) return;
  throw InputError(
      fmt::format("'{}': {}: expected text; got a NUL byte: this is a binary file, or a broken one",
                  name, place_of(text, nul, first_line)));
}

std::string read_text(const std::string& path) {
  std::string text = read_file(path);
  check_text(input_name(path), text);
  return text;
}

}  // namespace parsimony
