// Files that are whole or absent, locks, CSV in any locale, and npy: what is written reads back,
// and what is malformed is refused with file and line.
#include <parsimony/csv.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/input_files.hpp>
#include <parsimony/npy.hpp>
#include <parsimony/rng.hpp>

#include <clocale>
#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <limits>
#include <locale>

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

// --- CSV ---------------------------------------------------------------------------------------

namespace {

struct CommaDecimal : std::numpunct<char> {
  char do_decimal_point() const override { return ','; }
  char do_thousands_sep() const override { return '.'; }
  std::string do_grouping() const override { return "\3"; }
};

/// Decimal commas everywhere while it lives: in C++, and in C where such a locale is installed.
class CommaLocale {
 public:
  CommaLocale() : before_(std::locale::global(std::locale(std::locale(), new CommaDecimal))) {
    const char* name = std::setlocale(LC_ALL, nullptr);
    c_before_ = name == nullptr ? "C" : name;
    for (const char* locale : {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fr_FR.utf8", "de_DE"}) {
      if (std::setlocale(LC_ALL, locale) != nullptr) break;
    }
  }
  ~CommaLocale() {
    std::locale::global(before_);
    std::setlocale(LC_ALL, c_before_.c_str());
  }

 private:
  std::locale before_;
  std::string c_before_;
};

}  // namespace

TEST_CASE("csv: numbers read back to the same bits in every locale", "[io]") {
  const TempFolder folder;
  const std::string path = folder / "a.csv";
  Rng rng(3);
  std::vector<double> doubles = {
      0.0,       -0.0,      0.1,        1e-308,   5e-324,   1.7976931348623157e308,
      1234567.5, nan_value, -nan_value, infinity, -infinity};
  for (int i = 0; i < 200; ++i) doubles.push_back(std::exp(50 * rng.normal()));
  const auto check = [&] {
    CHECK(format_number(0.1) == "0.10000000000000001");
    CHECK(format_number(0.1F) == "0.100000001");
    CHECK(format_number(1234567.5) == "1234567.5");
    CHECK(format_number(nan_value) == "nan");
    CHECK(format_number(-nan_value) == "nan");
    CHECK(format_number(infinity) == "inf");
    CHECK(format_number(-std::numeric_limits<float>::infinity()) == "-inf");
    CsvWriter writer(path, {"step", "double", "float"});
    for (std::size_t i = 0; i < doubles.size(); ++i) {
      writer.row({10000 * i, doubles[i], static_cast<float>(doubles[i])});
    }
    CHECK_FALSE(std::filesystem::exists(path));
    writer.finish();
    const CsvTable table = read_csv(path);
    REQUIRE(table.rows() == doubles.size());
    const std::vector<double> steps = table.numbers("step");
    const std::vector<double> read = table.numbers("double");
    const std::vector<double> floats = table.numbers("float");
    for (std::size_t i = 0; i < doubles.size(); ++i) {
      CHECK(steps[i] == 10000.0 * static_cast<double>(i));
      if (std::isnan(doubles[i])) {
        CHECK(std::isnan(read[i]));
        CHECK(std::isnan(floats[i]));
      } else {
        CHECK(std::memcmp(&read[i], &doubles[i], sizeof read[i]) == 0);
        CHECK(static_cast<float>(floats[i]) == static_cast<float>(doubles[i]));
      }
    }
    std::filesystem::remove(path);
  };
  check();
  const CommaLocale commas;
  check();
}

TEST_CASE("csv: text is quoted and read back", "[io]") {
  const TempFolder folder;
  const std::vector<std::string> texts = {"plain",    "",        "a,b", "say \"x\"", "two\nlines",
                                          "cr\r\nlf", " space ", "\"",  "ünï",       "tab\t"};
  CsvWriter writer(folder / "a.csv", {"text, with comma", "n"});
  for (std::size_t i = 0; i < texts.size(); ++i) writer.row({texts[i], i});
  CHECK_THROWS_AS(writer.row({"one"}), ValueError);
  writer.finish();
  const CsvTable table = read_csv(folder / "a.csv");
  CHECK(table.columns() == std::vector<std::string>{"text, with comma", "n"});
  CHECK(table.strings("text, with comma") == texts);
  CHECK(table.line(4) == 6);
  CHECK(table.line(5) == 8);  // after a field of two lines
  CHECK(csv_line({"a", 1, 2.5, "b\"c"}) == "a,1,2.5,\"b\"\"c\"\n");

  CsvWriter single(folder / "b.csv", {"only"});
  single.row({""});
  single.row({"x"});
  single.finish();
  CHECK(read_csv(folder / "b.csv").strings("only") == std::vector<std::string>{"", "x"});
  { CsvWriter(folder / "c.csv", {"x"}).row({1}); }  // never finished
  CHECK(folder.count() == 2);
  CHECK_THROWS_AS(CsvWriter(folder / "c.csv", {}), ValueError);
  CHECK_THROWS_AS(CsvWriter(folder / "c.csv", {"x", "x"}), ValueError);
  CHECK_THROWS_AS(CsvWriter(folder / "none/c.csv", {"x"}), IoError);
}

TEST_CASE("csv: line ends, blank lines and byte order marks of others", "[io]") {
  const CsvTable table = parse_csv("t", "\xEF\xBB\xBFx,\"y\"\r\n1,a\r\n\r\n2,\"b\"\r\n\n3,c");
  CHECK(table.columns() == std::vector<std::string>{"x", "y"});
  CHECK(table.numbers("x") == std::vector<double>{1, 2, 3});
  CHECK(table.strings("y") == std::vector<std::string>{"a", "b", "c"});
  CHECK(table.line(2) == 6);
  CHECK(parse_csv("t", "x\n").rows() == 0);
  CHECK(parse_csv("t", "x,y\n,\n").strings("y") == std::vector<std::string>{""});
  CHECK(parse_csv("t", "x\n1\r").numbers("x") == std::vector<double>{1});
  CHECK(parse_csv("t", "x\n\"1\"\r").numbers("x") == std::vector<double>{1});
}

TEST_CASE("csv: malformed tables are refused with file and line", "[io]") {
  const TempFolder folder;
  struct Case {
    std::string text;
    std::string reason;
  };
  const std::vector<Case> cases = {
      {"", "line 1: the file is empty"},
      {"\n\n", "the file is empty"},
      {"\xEF\xBB\xBF", "the file is empty"},
      {"x,y\n1,2\n3\n", "line 3: expected 2 fields; got 1"},
      {"x,y\n1,2,3\n", "line 2: expected 2 fields; got 3"},
      {"x,x\n", "line 1: the column 'x' comes twice"},
      {"x\n\"1\n2\n", "line 2: a quote is never closed"},
      {"x\n\"1\"2\n", "line 2: text after a closing quote"},
      {"x\n1\n2\"3\n", "line 3: a quote inside a field"},
      {std::string("x\n1\n\0\n", 6), "line 3, byte 1: expected text; got a NUL byte"},
  };
  for (const Case& bad : cases) {
    write_raw(folder / "bad.csv", bad.text);
    CHECK_THROWS_AS(read_csv(folder / "bad.csv"), InputError);
    CHECK_THROWS_WITH(read_csv(folder / "bad.csv"), contains(bad.reason) && contains("bad.csv"));
  }
  for (const char* bad : {"abc", "1,5", "1x", " 1", "1 ", "", "0x10", "--1", "1e999"}) {
    const CsvTable table = parse_csv("t.csv", std::string("n,x\n0,1\n1,\"") + bad + "\"\n");
    CAPTURE(bad);
    CHECK_THROWS_AS(table.numbers("x"), InputError);
    CHECK_THROWS_WITH(table.numbers("x"), contains("'t.csv', line 3"));
  }
  const CsvTable table = parse_csv("t.csv", "x,y\n1,2\n");
  CHECK(table.has("x"));
  CHECK_FALSE(table.has("z"));
  CHECK_THROWS_WITH(table.strings("z"), contains("no column 'z'; it has x, y"));
  CHECK_THROWS_AS(read_csv(folder / "none.csv"), InputError);
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
