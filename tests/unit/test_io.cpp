// Files that are whole or absent, locks, and npy: what is written reads back, and what is malformed
// is refused with its file.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/input_files.hpp>
#include <parsimony/npy.hpp>
#include <parsimony/rng.hpp>

#include <csignal>
#include <cstring>
#include <filesystem>

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony;
using testing::contains;
using testing::infinity;
using testing::nan_value;
using testing::TempFolder;
using testing::write_raw;

// --- Files -------------------------------------------------------------------------------------

TEST_CASE("files: written whole, replaced whole, read back", "[io]") {
  const TempFolder folder;
  const std::string path = folder / "a.bin";
  std::string bytes(200000, 'x');
  bytes[70000] = '\0';
  write_file_atomically(path, bytes);
  CHECK(read_file(path) == bytes);
  write_file_atomically(path, "");
  CHECK(read_file(path).empty());
  write_file_atomically(path, [&](AtomicFile& file) {
    for (int i = 0; i < 30000; ++i) file.write("0123456789");
    file.write(bytes);
    file.write("end");
    // Under its name the old file stands until the new one is complete.
    CHECK(read_file(path).empty());
  });
  const std::string all = read_file(path);
  CHECK(all.size() == 300000 + bytes.size() + 3);
  CHECK(all.substr(299990, 10) == "0123456789");
  CHECK(all.substr(300000, bytes.size()) == bytes);
  CHECK(folder.count() == 1);

  // The longest name that the system takes.
  write_file_atomically(folder / std::string(255, 'n'), "x");
  CHECK(read_file(folder / std::string(255, 'n')) == "x");
}

TEST_CASE("files: an exception or a missing commit leaves nothing behind", "[io]") {
  const TempFolder folder;
  const std::string path = folder / "a";
  write_file_atomically(path, "old");
  CHECK_THROWS_AS(write_file_atomically(path,
                                        [](AtomicFile& file) {
                                          file.write(std::string(100000, 'x'));
                                          throw ValueError("half-way");
                                        }),
                  ValueError);
  { AtomicFile(folder / "b").write("x"); }
  CHECK(read_file(path) == "old");
  CHECK(folder.count() == 1);
  AtomicFile file(folder / "c");
  file.commit();
  CHECK_THROWS_AS(file.write("x"), IoError);
  CHECK_THROWS_AS(file.commit(), IoError);
}

TEST_CASE("files: a link stays a link, permissions stay", "[io]") {
  const TempFolder folder;
  write_file_atomically(folder / "target", "old");
  REQUIRE(::chmod((folder / "target").c_str(), 0640) == 0);
  std::filesystem::create_symlink(folder / "target", folder / "link");
  write_file_atomically(folder / "link", "new");
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(read_file(folder / "target") == "new");
  struct stat info {};
  REQUIRE(::stat((folder / "target").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0640);
}

TEST_CASE("files: unwritable places are named with the system's reason", "[io]") {
  const TempFolder folder;
  CHECK_THROWS_WITH(write_file_atomically(folder / "none/a", "x"),
                    contains("none/a") && contains("No such file or directory"));
  write_file_atomically(folder / "file", "x");
  CHECK_THROWS_WITH(write_file_atomically(folder / "file/a", "x"), contains("Not a directory"));
  CHECK_THROWS_AS(write_file_atomically(folder.path(), "x"), IoError);
  CHECK_THROWS_AS(write_file_atomically(folder / "new/", "x"), IoError);
  CHECK_THROWS_AS(write_file_atomically("", "x"), IoError);
  CHECK_THROWS_AS(write_file_atomically(folder / std::string(256, 'n'), "x"), IoError);
  CHECK(folder.count() == 1);
  make_folders(folder / "deep/er");
  make_folders(folder / "deep/er");
  CHECK(std::filesystem::is_directory(folder / "deep/er"));
  CHECK_THROWS_AS(make_folders(folder / "file/er"), InputError);
  CHECK_THROWS_AS(make_folders(folder / "file"), InputError);
  if (::geteuid() != 0) {  // root may write anywhere
    REQUIRE(::chmod((folder / "deep").c_str(), 0555) == 0);
    CHECK_THROWS_WITH(write_file_atomically(folder / "deep/a", "x"), contains("Permission denied"));
    REQUIRE(::chmod((folder / "deep").c_str(), 0755) == 0);
  }
}

TEST_CASE("files: no partial file when the disk or a limit is full", "[io]") {
  if (std::filesystem::exists("/dev/full")) {
    CHECK_THROWS_WITH(write_file_atomically("/dev/full", "x"), contains("No space left on device"));
  }
  write_file_atomically("/dev/null", "x");  // written to, not replaced by a regular file
  CHECK(std::filesystem::is_character_file("/dev/null"));

  // A limit on file size fails in the middle of a write, as a full disk does.
  const TempFolder folder;
  const std::string path = folder / "a";
  write_file_atomically(path, "old");
  struct rlimit before {};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit small = before;
  small.rlim_cur = 100000;
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  std::string message;
  std::size_t left = 0;
  try {
    write_file_atomically(path, [](AtomicFile& file) {
      for (int i = 0; i < 30000; ++i) file.write("0123456789");
    });
  } catch (const IoError& error) {
    message = error.what();
    left = folder.count();
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK_THAT(message, contains(path) && contains("File too large"));
  CHECK(left == 1);
  CHECK(read_file(path) == "old");
}

TEST_CASE("files: reading what is not there", "[io]") {
  const TempFolder folder;
  CHECK_THROWS_AS(read_file(folder / "none"), InputError);
  CHECK_THROWS_WITH(read_file(folder / "none"),
                    contains("none': expected a file; it does not exist"));
  CHECK_THROWS_AS(read_file(folder.path()), InputError);
  CHECK_THROWS_WITH(read_file(folder.path()), contains("': expected a file; got a folder"));
  write_file_atomically(folder / "secret", "x");
  REQUIRE(::chmod((folder / "secret").c_str(), 0) == 0);
  if (::geteuid() != 0) CHECK_THROWS_AS(read_file(folder / "secret"), InputError);
}

TEST_CASE("files: what a user names is refused with the nearest name, kind and place", "[io]") {
  const TempFolder folder;
  make_folders(folder / "runs");
  write_raw(folder / "text.txt", "a\n\xC3\xA9\xFF\n");
  CHECK_THROWS_WITH(check_folder(folder / "rusn", "a run folder"),
                    contains("rusn': expected a run folder; it does not exist, did you mean '") &&
                        contains("/runs'?"));
  CHECK_THROWS_WITH(check_folder(folder / "tiny", "a model", {folder / "tiny-1"}),
                    contains("did you mean '") && contains("/tiny-1'?"));
  CHECK_THROWS_WITH(check_folder(folder / "text.txt"), contains("expected a folder; got a file"));
  CHECK_THROWS_WITH(check_folder(folder / "text.txt/x"), contains("it does not exist"));
  CHECK_NOTHROW(check_folder(folder / "runs"));
  CHECK_THROWS_WITH(check_exists(folder / "none"), contains("expected a file or a folder; it"));
  CHECK_NOTHROW(check_exists(folder / "text.txt"));
  CHECK_THROWS_WITH(read_text(folder / "text.txt"),
                    contains("text.txt': line 2, byte 3: expected UTF-8; got 0xFF"));
  CHECK_THROWS_WITH(check_text("t", std::string("ab\0", 3), 7),
                    contains("'t': line 7, byte 3: expected text; got a NUL byte"));
  CHECK_NOTHROW(check_no_nul("t", "\xFF"));
}

TEST_CASE("files: a lock keeps others out and names its holder", "[io]") {
  const TempFolder folder;
  const std::string path = folder / "lock";
  const std::string pid = "process " + std::to_string(::getpid());
  {
    FileLock lock(path);
    CHECK_THROWS_AS(FileLock(path), InputError);
    CHECK_THROWS_WITH(FileLock(path), contains(pid));
    const FileLock moved(std::move(lock));
    CHECK_THROWS_AS(FileLock(path), InputError);
    const pid_t child = ::fork();
    if (child == 0) {
      // Whatever happens, the child must not go on with the tests.
      int code = 1;
      try {
        const FileLock second(path);
      } catch (const InputError&) {
        code = 0;
      } catch (...) {
        code = 2;
      }
      ::_exit(code);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
  CHECK(folder.count() == 0);

  // A holder that was killed leaves its file but not its lock.
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      const FileLock lock(path);
      if (::write(ready[1], "x", 1) == 1) ::pause();
    } catch (...) {
    }
    ::_exit(1);
  }
  ::close(ready[1]);  // so that a child that fails ends the read below
  char byte = 0;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  CHECK_THROWS_WITH(FileLock(path), contains("process " + std::to_string(child)));
  REQUIRE(::kill(child, SIGKILL) == 0);
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  CHECK(folder.count() == 1);
  {
    const FileLock lock(path);
    CHECK(read_file(path) == std::to_string(::getpid()) + "\n");
  }
  ::close(ready[0]);
  CHECK_THROWS_AS(FileLock(folder / "none/lock"), IoError);
}

TEST_CASE("files: JSON strings", "[io]") {
  CHECK(json_quote("a\"b\\c\n\t\x01ü") == "\"a\\\"b\\\\c\\n\\t\\u0001ü\"");
  CHECK(json_escape("a\"b") == "a\\\"b");
  CHECK(json_escape("").empty());
  CHECK_THROWS_AS(json_quote("\xC3"), ValueError);
}

// --- npy ---------------------------------------------------------------------------------------

namespace {

std::string npy_bytes(const std::string& header, const std::string& data, char major = 1) {
  std::string out = std::string("\x93NUMPY") + major + '\0';
  const std::size_t width = major == 1 ? 2 : 4;
  for (std::size_t i = 0; i < width; ++i) out += static_cast<char>(header.size() >> (8 * i) & 0xFF);
  return out + header + data;
}

std::string dictionary(const std::string& descr, const std::string& order,
                       const std::string& shape) {
  return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
}

template <class T>
void round_trip(const Tensor<T>& tensor) {
  const TempFolder folder;
  save_npy(folder / "a.npy", tensor);
  const Tensor<T> loaded = load_npy<T>(folder / "a.npy");
  REQUIRE(loaded.shape() == tensor.shape());
  CHECK(std::memcmp(loaded.data(), tensor.data(),
                    static_cast<std::size_t>(tensor.size()) * sizeof(T)) == 0);
  const std::string bytes = read_file(folder / "a.npy");
  CHECK((bytes.size() - static_cast<std::size_t>(tensor.size()) * sizeof(T)) % 64 == 0);
  CHECK(folder.count() == 1);
}

}  // namespace

TEST_CASE("npy: what is saved is loaded bit by bit", "[io]") {
  Rng rng(4);
  for (const Shape& shape :
       std::vector<Shape>{{}, {1}, {7}, {3, 4}, {2, 3, 4}, {0}, {3, 0}, {1, 1, 1, 1, 1, 1, 1, 2}}) {
    round_trip(rng.normal<double>(shape));
    round_trip(rng.normal<float>(shape));
    round_trip(Tensor<std::int64_t>::full(shape, -5));
  }
  round_trip(Tensor<double>({4}, {nan_value, infinity, -infinity, -0.0}));
}

TEST_CASE("npy: the bytes are NumPy's", "[io]") {
  // numpy.save of numpy.arange(3.0), version 1.0.
  const TempFolder folder;
  save_npy(folder / "a.npy", Tensor<double>({3}, {0, 1, 2}));
  std::string header = "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }";
  header.append(117 - header.size(), ' ');
  header += '\n';
  const double values[] = {0, 1, 2};
  const std::string data(reinterpret_cast<const char*>(values), sizeof values);
  CHECK(read_file(folder / "a.npy") == npy_bytes(header, data));
  // Version 2.0, other quotes, order and spacing.
  write_raw(folder / "b.npy",
            npy_bytes("{\"shape\":(3 , ),'fortran_order':False,'descr':'<f8'}", data, 2));
  CHECK(load_npy<double>(folder / "b.npy").to_vector() == std::vector<double>{0, 1, 2});
}

TEST_CASE("npy: other types convert when asked", "[io]") {
  const TempFolder folder;
  write_raw(folder / "a",
            npy_bytes(dictionary("|b1", "False", "(2, 2)"), std::string("\1\0\0\1", 4)));
  CHECK(load_npy_as<double>(folder / "a").to_vector() == std::vector<double>{1, 0, 0, 1});
  write_raw(folder / "a",
            npy_bytes(dictionary("<i4", "False", "(1,)"), std::string("\xFE\xFF\xFF\xFF", 4)));
  CHECK(load_npy_as<float>(folder / "a").at({0}) == -2.0F);
  save_npy(folder / "a", Tensor<float>({2}, {0.5F, 3}));
  CHECK(load_npy_as<double>(folder / "a").at({0}) == 0.5);
  CHECK_THROWS_AS(load_npy<double>(folder / "a"), InputError);
  CHECK_THROWS_WITH(load_npy<double>(folder / "a"), contains("expected the type '<f8'; got '<f4'"));
}

TEST_CASE("npy: malformed files are refused with a reason", "[io]") {
  const TempFolder folder;
  const std::string path = folder / "bad.npy";
  const std::string data(16, '\0');
  const std::string good = dictionary("<f8", "False", "(2,)");
  struct Case {
    std::string bytes;
    std::string reason;
  };
  const std::vector<Case> cases = {
      {"", "not a .npy file"},
      {"PK\x03\x04 zipped numbers", "not a .npy file"},
      {npy_bytes(good, data).substr(0, 30), "cut off"},
      {npy_bytes(good, data, 3), "version"},
      {npy_bytes(good, data.substr(1)), "needs 16 bytes of values; the file has 15"},
      {npy_bytes(good, data + "x"), "needs 16 bytes of values; the file has 17"},
      {npy_bytes(dictionary("<f8", "True", "(2, 1)"), data), "Fortran order"},
      {npy_bytes(dictionary("<f8", "Maybe", "(2,)"), data), "neither True nor False"},
      {npy_bytes(dictionary(">f8", "False", "(2,)"), data), "big-endian"},
      {npy_bytes(dictionary("|O", "False", "(2,)"), data), "'|O' is not supported"},
      {npy_bytes(dictionary("<c16", "False", "(1,)"), data), "'<c16' is not supported"},
      {npy_bytes("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (2,), }", data),
       "structured"},
      {npy_bytes("{'descr': '<f8', 'shape': (2,), }", data), "lacks"},
      {npy_bytes("{'descr': '<f8', 'descr': '<f8', 'shape': (2,), }", data), "comes twice"},
      {npy_bytes("{'descr': '<f8', 'color': 1}", data), "unknown key 'color'"},
      {npy_bytes("nonsense", data), "expected '{'"},
      {npy_bytes(good + "x", data), "text after"},
      {npy_bytes(dictionary("<f8", "False", "(-2,)"), data), "not a number"},
      {npy_bytes(dictionary("<f8", "False", "(2)"), data), "lacks its comma"},
      {npy_bytes(dictionary("<f8", "False", "(1 2)"), data), "without commas"},
      {npy_bytes(dictionary("<f8", "False", "(1,1,1,1,1,1,1,1,2)"), data), "more than 8 axes"},
      {npy_bytes(dictionary("<f8", "False", "(4294967296, 4294967296)"), data), "2^63"},
      {npy_bytes(dictionary("<f8", "False", "(99999999999999999999,)"), data), "overflows"},
  };
  for (const Case& bad : cases) {
    write_raw(path, bad.bytes);
    CAPTURE(bad.reason);
    CHECK_THROWS_AS(load_npy<double>(path), InputError);
    CHECK_THROWS_WITH(load_npy<double>(path), contains(bad.reason) && contains(path));
  }
  const std::string whole = npy_bytes(good, data);
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    write_raw(path, whole.substr(0, cut));
    CHECK_THROWS_AS(load_npy<double>(path), InputError);
  }
  CHECK_THROWS_AS(load_npy<double>(folder / "none"), InputError);
}
