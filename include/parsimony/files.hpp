// Files that are whole or absent: what is written goes to a temporary name in the same folder, is
// flushed to the disk and takes its final name in one step. Also: reading a file with a message
// that a user can act on, and a lock that keeps two runs out of one folder.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace parsimony {

/// A file being written under a temporary name; `commit` gives it the final one. Without a commit
/// the destructor removes it. Where `path` is a link, what it points to is replaced; a pipe or a
/// device is written to directly.
class AtomicFile {
 public:
  /// @throws IoError if the folder is missing or not writable.
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends bytes (buffered). @throws IoError, after removing the temporary file.
  void write(const void* data, std::size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// Flushes to the disk and renames. @throws IoError, after removing the temporary file.
  void commit();

 private:
  void flush();
  void discard() noexcept;
  [[noreturn]] void fail(const char* action);

  std::string path_;       // as the user gave it, for messages
  std::string target_;     // behind links
  std::string temporary_;  // empty where the target is no regular file
  std::string buffer_;
  int fd_ = -1;
};

/// Writes all of `bytes`, or nothing. @throws IoError with the system's reason.
void write_file_atomically(const std::string& path, std::string_view bytes);
/// The same for contents that come in pieces; an exception from `write` leaves no file.
void write_file_atomically(const std::string& path, const std::function<void(AtomicFile&)>& write);

/// The bytes of a file, or of the standard input for "-". @throws InputError as open_input; IoError
/// if reading fails half-way.
std::string read_file(const std::string& path);

/// Path of a data file, looked up in `folder` (--data, "" if not given), then $PARSIMONY_DATA, then
/// ./data; "" if none has it.
std::string find_data_file(const std::string& folder, const std::string& relative);
/// The same. @throws MissingData naming the file, where it was looked for and where to get it.
std::string data_file(const std::string& folder, const std::string& relative,
                      const std::string& where_to_get_it);

/// Creates a folder and its parents; fine if it exists. @throws InputError if a file is in the way,
/// IoError.
void make_folders(const std::string& path);

/// Holds `path` locked for this process until it goes out of scope; the file contains the process
/// id and disappears with the lock. A lock whose holder died, even by kill -9, is free.
class FileLock {
 public:
  /// @throws InputError naming the holder's process id if the lock is taken, IoError if the file
  /// cannot be written.
  explicit FileLock(const std::string& path);
  ~FileLock();
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&&) = delete;
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  std::string path_;
  int fd_ = -1;
  int owner_ = 0;
};

/// Refuses JSON that is nested deeper than any file of ours or of Hugging Face's: what walks
/// through the parsed tree recurses. @throws InputError naming the file.
void check_json_depth(const std::string& path, std::string_view text);

/// `text` (UTF-8) as the inside of a JSON string. @throws ValueError if it is not UTF-8.
std::string json_escape(std::string_view text);
/// The same with the quotes around it.
std::string json_quote(std::string_view text);

}  // namespace parsimony
