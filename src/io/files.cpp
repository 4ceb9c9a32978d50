// Atomic files, whole-file reads and folder locks over POSIX calls: iostreams say neither why a
// write failed nor whether the bytes reached the disk.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/input_files.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace parsimony {

namespace {

constexpr std::size_t buffer_size = 1 << 16;

std::string reason(int error) { return std::generic_category().message(error); }

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

/// The path behind links, or `path` itself where nothing is there yet.
std::string resolve(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr),
                                                         &std::free);
  return real ? std::string(real.get()) : path;
}

int close_retrying(int fd) {
  // On Linux the descriptor is gone even after EINTR: closing again could hit another file.
  return ::close(fd) == 0 || errno == EINTR ? 0 : -1;
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path) : path_(path), target_(resolve(path)) {
  struct stat info {};
  const bool exists = ::stat(target_.c_str(), &info) == 0;
  if (path.empty() || path.back() == '/' || (exists && S_ISDIR(info.st_mode))) {
    throw IoError(fmt::format("write: expected the name of a file; got the folder '{}'", path));
  }
  if (exists && !S_ISREG(info.st_mode)) {
    fd_ = ::open(target_.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd_ < 0) fail("cannot open");
    return;
  }
  // A name of its own, short since the final one may be as long as the system allows.
  static std::atomic<unsigned> counter{0};
  const std::string stem = fmt::format("{}/.parsimony-{}", folder_of(target_), ::getpid());
  do {
    temporary_ = fmt::format("{}-{}.tmp", stem, counter++);
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (fd_ < 0 && errno == EEXIST);
  if (fd_ < 0) {
    temporary_.clear();
    fail("cannot write");
  }
  // A file that is replaced keeps its permissions; where that fails, the default ones do.
  if (exists && ::fchmod(fd_, info.st_mode & 07777) != 0) errno = 0;
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() noexcept {
  if (fd_ >= 0) close_retrying(fd_);
  fd_ = -1;
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

void AtomicFile::fail(const char* action) {
  const int error = errno;
  discard();
  throw IoError(fmt::format("write: {} '{}': {}", action, path_, reason(error)));
}

void AtomicFile::write(const void* data, std::size_t size) {
  if (fd_ < 0) throw IoError(fmt::format("write: '{}' is closed", path_));
  const char* bytes = static_cast<const char*>(data);
  if (buffer_.size() + size < buffer_size) {
    buffer_.append(bytes, size);
    return;
  }
  flush();
  if (size < buffer_size) {
    buffer_.append(bytes, size);
    return;
  }
  while (size > 0) {
    const ssize_t written = ::write(fd_, bytes, std::min<std::size_t>(size, 1 << 30));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("cannot write");
    bytes += written;
    size -= static_cast<std::size_t>(written);
  }
}

void AtomicFile::flush() {
  std::size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t written = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("cannot write");
    done += static_cast<std::size_t>(written);
  }
  buffer_.clear();
}

void AtomicFile::commit() {
  if (fd_ < 0) throw IoError(fmt::format("write: '{}' is closed", path_));
  flush();
  // Pipes and devices have nothing to sync.
  if (::fsync(fd_) != 0 && errno != EINVAL && errno != EROFS) fail("cannot flush");
  const int fd = fd_;
  fd_ = -1;
  if (close_retrying(fd) != 0) fail("cannot close");
  if (temporary_.empty()) return;
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("cannot rename into");
  temporary_.clear();
  // The new name survives a power cut only once the folder is on the disk; a file system that
  // cannot sync a folder has its own ways.
  const int folder = ::open(folder_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    ::fsync(folder);
    close_retrying(folder);
  }
}

void write_file_atomically(const std::string& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

void write_file_atomically(const std::string& path, const std::function<void(AtomicFile&)>& write) {
  AtomicFile file(path);
  write(file);
  file.commit();
}

std::string read_file(const std::string& path) {
  const int fd = open_input(path);
  struct stat info {};
  std::string bytes;
  int error = ::fstat(fd, &info) == 0 ? 0 : errno;
  // The size is a hint only: pipes say 0, and a file may grow.
  std::size_t used = 0;
  bytes.resize(static_cast<std::size_t>(info.st_size) + 1);
  while (error == 0) {
    if (used == bytes.size()) bytes.resize(2 * bytes.size() + buffer_size);
    const ssize_t got =
        ::read(fd, &bytes[used], std::min<std::size_t>(bytes.size() - used, 1 << 30));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) error = errno;
    if (got <= 0) break;
    used += static_cast<std::size_t>(got);
  }
  close_retrying(fd);
  if (error != 0) {
    throw IoError(fmt::format("read: reading '{}' failed: {}", input_name(path), reason(error)));
  }
  bytes.resize(used);
  return bytes;
}

namespace {

std::vector<std::string> data_folders(const std::string& folder) {
  std::vector<std::string> folders;
  if (!folder.empty()) folders.push_back(folder);
  const char* variable = std::getenv("PARSIMONY_DATA");
  if (variable != nullptr && *variable != '\0') folders.push_back(variable);
  folders.push_back("./data");
  return folders;
}

}  // namespace

std::string find_data_file(const std::string& folder, const std::string& relative) {
  for (const std::string& root : data_folders(folder)) {
    const std::filesystem::path path = std::filesystem::path(root) / relative;
    std::error_code error;
    if (std::filesystem::is_regular_file(path, error)) return path.string();
  }
  return "";
}

std::string data_file(const std::string& folder, const std::string& relative,
                      const std::string& where_to_get_it) {
  std::string path = find_data_file(folder, relative);
  if (path.empty()) {
    throw MissingData(fmt::format("data file '{}' not found in {}; {}", relative,
                                  fmt::join(data_folders(folder), ", "), where_to_get_it));
  }
  return path;
}

void make_folders(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (!error && !std::filesystem::is_directory(path, error) && !error) {
    error = std::make_error_code(std::errc::not_a_directory);
  }
  if (error == std::errc::not_a_directory) {
    throw InputError(
        fmt::format("'{}': expected a folder to write to; a file is in the way", path));
  }
  if (error) {
    throw IoError(fmt::format("write: cannot create the folder '{}': {}", path, error.message()));
  }
}

// --- Locks -----------------------------------------------------------------------------------

FileLock::FileLock(const std::string& path) : path_(path), owner_(::getpid()) {
  for (;;) {
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd_ < 0) {
      throw IoError(fmt::format("lock: cannot open '{}': {}", path, reason(errno)));
    }
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      char holder[32] = {};
      const ssize_t got = ::pread(fd_, holder, sizeof holder - 1, 0);
      close_retrying(fd_);
      if (error != EWOULDBLOCK) {
        throw IoError(fmt::format("lock: cannot lock '{}': {}", path, reason(error)));
      }
      const long pid = got > 0 ? std::strtol(holder, nullptr, 10) : 0;
      throw InputError(fmt::format("lock: '{}' is held by {}; wait for it or use another folder",
                                   path,
                                   pid > 0 ? fmt::format("process {}", pid) : "another process"));
    }
    // The holder before us may have removed the file between our open and our lock; then we hold a
    // file without a name, which keeps nobody out.
    struct stat ours {};
    struct stat named {};
    if (::fstat(fd_, &ours) == 0 && ::stat(path.c_str(), &named) == 0 &&
        ours.st_ino == named.st_ino && ours.st_dev == named.st_dev) {
      break;
    }
    close_retrying(fd_);
  }
  const std::string pid = fmt::format("{}\n", owner_);
  if (::ftruncate(fd_, 0) != 0 ||
      ::pwrite(fd_, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    const int error = errno;
    ::unlink(path.c_str());
    close_retrying(fd_);
    throw IoError(fmt::format("lock: cannot write '{}': {}", path, reason(error)));
  }
}

FileLock::FileLock(FileLock&& other) noexcept
    : path_(std::move(other.path_)), fd_(other.fd_), owner_(other.owner_) {
  other.fd_ = -1;
}

FileLock::~FileLock() {
  if (fd_ < 0) return;
  // A forked child holds a copy of the descriptor, but not the lock's name.
  if (owner_ == ::getpid()) ::unlink(path_.c_str());
  close_retrying(fd_);
}

}  // namespace parsimony
