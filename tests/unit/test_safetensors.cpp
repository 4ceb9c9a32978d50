// Safetensors files: what is written reads back to the same bits, files of others read right, and
// every way in which a file can be malformed has its own message.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/rng.hpp>
#include <parsimony/safetensors.hpp>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony;
using testing::contains;
using testing::TempFolder;
using testing::write_raw;

namespace {

std::string little_endian(std::uint64_t n) {
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>(n >> (8 * i) & 0xFF);
  return out;
}

std::string raw_file(const std::string& header, const std::string& data) {
  return little_endian(header.size()) + header + data;
}

/// Header of tensors given as name, dtype, shape, begin, end.
std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets,
                const std::string& name = "x") {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}

template <class T>
void check_equal_bits(const Tensor<T>& a, const Tensor<T>& b) {
  REQUIRE(a.shape() == b.shape());
  CHECK(std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(T)) == 0);
}

}  // namespace

TEST_CASE("safetensors: what is saved is loaded bit by bit", "[io]") {
  const TempFolder folder;
  Rng rng(1);
  TensorMap map;
  Tensor<double> a = rng.normal<double>({3, 4});
  a.mutable_data()[0] = std::numeric_limits<double>::quiet_NaN();
  a.mutable_data()[1] = -0.0;
  a.mutable_data()[2] = -std::numeric_limits<double>::infinity();
  const Tensor<float> b = rng.normal<float>({2, 1, 5});
  const Tensor<std::int64_t> c({3}, {std::numeric_limits<std::int64_t>::min(), 0, 7});
  const Tensor<std::uint8_t> d({5}, {0, 1, 2, 254, 255});
  map.set("zz.double", a);
  map.set("float \"quoted\" \\ ünïcode\n", b);
  map.set("long", c);
  map.set("bytes", d);
  map.set_bool("mask", Tensor<std::uint8_t>({2, 2}, {0, 1, 1, 0}));
  map.set("scalar", Tensor<double>::scalar(2.5));
  map.set("empty", Tensor<float>({0, 3}));
  map.metadata = {{"eta_sum", "0.1"}, {"note", "tab\there"}};
  const std::string path = folder / "a.safetensors";
  save_safetensors(path, map);

  const TensorMap loaded = load_safetensors(path);
  CHECK(loaded.names() == map.names());
  CHECK(loaded.size() == 7);
  check_equal_bits(loaded.get<double>("zz.double"), a);
  check_equal_bits(loaded.get<float>("float \"quoted\" \\ ünïcode\n"), b);
  check_equal_bits(loaded.get<std::int64_t>("long"), c);
  check_equal_bits(loaded.get<std::uint8_t>("bytes"), d);
  CHECK(loaded.dtype("mask") == "BOOL");
  CHECK(loaded.get<std::uint8_t>("mask").at({0, 1}) == 1);
  CHECK(loaded.get<double>("scalar").rank() == 0);
  CHECK(loaded.get<double>("scalar").item() == 2.5);
  CHECK(loaded.shape("empty") == Shape{0, 3});
  auto metadata = map.metadata;
  metadata["format"] = "pt";
  CHECK(loaded.metadata == metadata);

  // The same bytes again, a header of a multiple of 8 bytes, aligned tensors, no other files.
  const std::string bytes = read_file(path);
  save_safetensors(path, loaded);
  CHECK(read_file(path) == bytes);
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  CHECK(length % 8 == 0);
  CHECK(folder.count() == 1);

  CHECK_THROWS_AS(save_safetensors(folder / "missing/a", map), IoError);
  map.set("\xFF", b);
  CHECK_THROWS_AS(save_safetensors(folder / "b", map), ValueError);
  CHECK(folder.count() == 1);
  CHECK_THROWS_AS(map.set("__metadata__", b), ValueError);
  CHECK_THROWS_AS(map.set("u", Tensor<float>()), ValueError);
  CHECK_THROWS_AS(map.set_bool("m", d), ValueError);
}

TEST_CASE("safetensors: types are converted only when asked", "[io]") {
  TensorMap map;
  map.set("layer.0.weight", Tensor<float>({2}, {1.5F, -2.0F}));
  map.set("ids", Tensor<std::int64_t>({2}, {3, 300}));
  map.set("whole", Tensor<double>({2}, {4, -5}));
  map.set("wild", Tensor<double>({3}, {1, std::nan(""), 1e300}));
  CHECK_THROWS_AS(map.get<double>("layer.0.weight"), InputError);
  CHECK_THROWS_WITH(map.get<double>("layer.0.weight"), contains("is F32; expected F64"));
  CHECK(map.get_as<double>("layer.0.weight").at({0}) == 1.5);
  CHECK(map.get_as<float>("ids").at({1}) == 300.0F);
  CHECK(map.get_as<std::int64_t>("whole").at({1}) == -5);
  CHECK_THROWS_AS(map.get_as<std::int64_t>("layer.0.weight"), InputError);
  CHECK_THROWS_AS(map.get_as<std::int64_t>("wild"), InputError);
  CHECK_THROWS_AS(map.get_as<std::uint8_t>("ids"), InputError);
  CHECK_THROWS_AS(map.get_as<std::uint8_t>("whole"), InputError);
  // No copy where the type agrees.
  CHECK(map.get_as<float>("layer.0.weight").data() == map.get<float>("layer.0.weight").data());
  CHECK_THROWS_WITH(map.get<float>("layer.0.wieght"), contains("did you mean 'layer.0.weight'?"));
  CHECK_THROWS_AS(map.get<float>("nothing like it"), InputError);
  CHECK(map.contains("ids"));
  CHECK_FALSE(map.contains("id"));
}

TEST_CASE("safetensors: half precisions and small integers widen", "[io]") {
  const TempFolder folder;
  const std::string path = folder / "a.safetensors";
  // 1, -2, 65504 (largest), 2^-24 (smallest), 2^-14 (smallest normal), inf, nan, -0
  const std::uint16_t half[] = {0x3C00, 0xC000, 0x7BFF, 0x0001, 0x0400, 0x7C00, 0x7E00, 0x8000};
  const std::uint16_t bfloat[] = {0x3F80, 0xC000, 0x7F7F, 0x0001, 0x0080, 0xFF80, 0x7FC0, 0x8000};
  const std::int32_t ints[] = {-2147483647 - 1, 5};
  std::string data(reinterpret_cast<const char*>(half), sizeof half);
  data.append(reinterpret_cast<const char*>(bfloat), sizeof bfloat);
  data.append(reinterpret_cast<const char*>(ints), sizeof ints);
  data += "\xFF\xFE";
  write_raw(path, raw_file("{" + one("F16", "[8]", "[0,16]", "h") + "," +
                               one("BF16", "[2,4]", "[16,32]", "b") + "," +
                               one("I32", "[2]", "[32,40]", "i") + "," +
                               one("I8", "[2]", "[40,42]", "s") + "}",
                           data));
  TensorMap map = load_safetensors(path);
  const Tensor<float>& h = map.get<float>("h");
  CHECK(map.dtype("h") == "F16");
  CHECK(h.at({0}) == 1.0F);
  CHECK(h.at({1}) == -2.0F);
  CHECK(h.at({2}) == 65504.0F);
  CHECK(h.at({3}) == 0x1p-24F);
  CHECK(h.at({4}) == 0x1p-14F);
  CHECK(std::isinf(h.at({5})));
  CHECK(std::isnan(h.at({6})));
  CHECK((h.at({7}) == 0.0F && std::signbit(h.at({7}))));
  const Tensor<float>& b = map.get<float>("b");
  CHECK(b.shape() == Shape{2, 4});
  CHECK(b.at({0, 0}) == 1.0F);
  CHECK(b.at({0, 1}) == -2.0F);
  CHECK(b.at({0, 2}) == 0x1.FEp127F);
  CHECK(b.at({0, 3}) == 0x1p-133F);
  CHECK(b.at({1, 1}) == -std::numeric_limits<float>::infinity());
  CHECK(std::isnan(b.at({1, 2})));
  CHECK(map.get<std::int64_t>("i").at({0}) == -2147483648);
  CHECK(map.get<std::int64_t>("s").at({1}) == -2);
  // Written again, a widened tensor has the type that it is held in.
  save_safetensors(path, map);
  map = load_safetensors(path);
  CHECK(map.dtype("h") == "F32");
  CHECK(map.get<float>("h").at({2}) == 65504.0F);
  CHECK(map.dtype("i") == "I64");
}

TEST_CASE("safetensors: what the narrower type cannot hold is refused, not made infinite", "[io]") {
  const TempFolder folder;
  const std::string path = folder / "a.safetensors";
  const auto save = [&](float value, const char* format) {
    TensorMap map;
    map.set_narrow("layer.weight", Tensor<float>({2}, {1, value}), float_format(format));
    save_safetensors(path, map);
    return load_safetensors(path).get<float>("layer.weight").at({1});
  };
  CHECK(save(-65519, "f16") == -65504);
  CHECK(std::isinf(save(std::numeric_limits<float>::infinity(), "f16")));  // as it was given
  CHECK_THROWS_AS(save(65520, "f16"), ValueError);
  CHECK_THROWS_WITH(save(-1e5F, "f16"),
                    contains(path) && contains("'layer.weight'") &&
                        contains("-100000 is beyond F16's largest number, 65504; choose bf16"));
  CHECK(save(1e5F, "bf16") == 99840);
  CHECK_THROWS_WITH(save(3.4e38F, "bf16"), contains("BF16's largest"));
  CHECK(folder.count() == 1);
}

TEST_CASE("safetensors: weights are finite floats", "[io]") {
  const TempFolder folder;
  const std::string path = folder / "a.safetensors";
  TensorMap map;
  map.set("ids", Tensor<std::int64_t>({2}, {3, 300}));
  map.set("layer\x1b[31m", Tensor<float>({2}, {1, 2}));
  CHECK_NOTHROW(check_finite(path, map));
  CHECK(map.weight<double>("layer\x1b[31m").at({1}) == 2);
  CHECK_THROWS_AS(map.weight<float>("ids"), InputError);
  CHECK_THROWS_WITH(map.weight<float>("ids"), contains("'ids' is I64; weights are F32"));
  save_weights(path, map);
  const std::string bytes = read_file(path);
  map.set("layer\x1b[31m", Tensor<float>({2}, {1, -std::numeric_limits<float>::infinity()}));
  CHECK_THROWS_AS(check_finite(path, map), InputError);
  CHECK_THROWS_WITH(check_finite(path, map),
                    contains(path) && contains("tensor 'layer\\x1b[31m': expected finite numbers; "
                                               "got -inf"));
  CHECK_THROWS_AS(save_weights(path, map), NumericalError);
  CHECK(read_file(path) == bytes);
}

TEST_CASE("safetensors: a large converted tensor is read in pieces", "[io]") {
  const TempFolder folder;
  const std::size_t n = (1 << 16) + 17;
  std::string data;
  for (std::size_t i = 0; i < n; ++i) {
    data += static_cast<char>(i & 0xFF);
    data += static_cast<char>(i >> 8 & 0x7F);
  }
  const std::string range = "[0," + std::to_string(2 * n) + "]";
  write_raw(folder / "a",
            raw_file("{" + one("U16", "[" + std::to_string(n) + "]", range) + "}", data));
  const Tensor<std::int64_t> x = load_safetensors(folder / "a").get<std::int64_t>("x");
  for (std::size_t i = 0; i < n; i += 97) {
    REQUIRE(x.data()[i] == static_cast<std::int64_t>(i & 0x7FFF));
  }
  CHECK(x.data()[n - 1] == static_cast<std::int64_t>((n - 1) & 0x7FFF));
}

TEST_CASE("safetensors: an empty map and an empty header", "[io]") {
  const TempFolder folder;
  save_safetensors(folder / "a", TensorMap());
  CHECK(load_safetensors(folder / "a").size() == 0);
  write_raw(folder / "b", raw_file("{}", ""));
  CHECK(load_safetensors(folder / "b").metadata.empty());
}

TEST_CASE("safetensors: malformed files are refused with a reason", "[io]") {
  const TempFolder folder;
  const std::string path = folder / "bad.safetensors";
  const std::string data(8, '\0');
  const std::string good = one("F32", "[2]", "[0,8]");
  struct Case {
    std::string bytes;
    std::string reason;
  };
  std::string deep(100000, '[');
  const std::vector<Case> cases = {
      {"", "at least 8 bytes"},
      {"short", "at least 8 bytes"},
      {little_endian(100), "does not fit"},
      {little_endian(~std::uint64_t{0}) + "{}", "does not fit"},
      {little_endian(100'000'001) + "{}", "does not fit"},
      {raw_file("", ""), "not a JSON object"},
      {raw_file("[]", ""), "not a JSON object"},
      {raw_file(" {}", ""), "not a JSON object"},
      {raw_file("{", ""), "not JSON"},
      {raw_file("{" + good + "} x", data), "not JSON"},
      {raw_file("{" + good + "}{}", data), "not JSON"},
      {raw_file("{" + one("F32", "[2]", "[0,8]", "\xFF\xFE") + "}", data), "not JSON in UTF-8"},
      {raw_file("{" + one("F32", "[2]", "[0,8]", "\\ud800") + "}", data), "not JSON"},
      {raw_file("{\"x\":" + deep, ""), "unexpected an array"},
      {raw_file("{" + one("F32", deep, "[0,8]"), data), "an array in tensor \"x\""},
      {raw_file("{\"x\":{\"dtype\":{\"a\":1}}}", data), "an object"},
      {raw_file("{\"x\":5}", data), "unexpected 5"},
      {raw_file("{\"x\":null}", data), "unexpected null"},
      {raw_file("{\"x\":\"F32\"}", data), "unexpected the string"},
      {raw_file("{\"x\":{\"dtype\":\"F32\",\"shape\":[2]}}", data), "\"data_offsets\" is missing"},
      {raw_file("{\"x\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", data),
       "\"shape\" is missing"},
      {raw_file("{\"x\":{\"shape\":[2],\"data_offsets\":[0,8]}}", data), "\"dtype\" is missing"},
      {raw_file("{\"x\":{\"dtype\":\"F32\",\"color\":\"red\"}}", data), "unknown key \"color\""},
      {raw_file("{\"x\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", data), "\"dtype\" comes twice"},
      {raw_file("{" + good + "," + good + "}", data), "the key \"x\" comes twice"},
      {raw_file("{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", ""), "\"a\" comes twice"},
      {raw_file("{\"__metadata__\":{},\"__metadata__\":{}}", ""), "comes twice"},
      {raw_file("{\"__metadata__\":{\"a\":1}}", ""), "in __metadata__"},
      {raw_file("{\"__metadata__\":{\"a\":{}}}", ""), "in __metadata__"},
      {raw_file("{" + one("F33", "[2]", "[0,8]") + "}", data), "\"F33\" is not supported"},
      {raw_file("{" + one("U64", "[1]", "[0,8]") + "}", data), "\"U64\" is not supported"},
      {raw_file("{" + one("F32", "[-2]", "[0,8]") + "}", data), "size of a shape is -2"},
      {raw_file("{" + one("F32", "[2.0]", "[0,8]") + "}", data), "size of a shape is 2.0"},
      {raw_file("{" + one("F32", "[true]", "[0,8]") + "}", data), "a boolean"},
      {raw_file("{" + one("F32", "2", "[0,8]") + "}", data), "unexpected 2"},
      {raw_file("{" + one("F32", "[2]", "[0]") + "}", data), "1 numbers instead of 2"},
      {raw_file("{" + one("F32", "[2]", "[0,8,8]") + "}", data), "two byte offsets"},
      {raw_file("{" + one("F32", "[2]", "[-1,8]") + "}", data), "two byte offsets"},
      {raw_file("{" + one("F32", "[3]", "[0,8]") + "}", data), "needs 12 bytes"},
      {raw_file("{" + one("F64", "[2]", "[0,8]") + "}", data), "needs 16 bytes"},
      {raw_file("{" + one("F32", "[]", "[0,8]") + "}", data), "needs 4 bytes"},
      {raw_file("{" + one("F32", "[0]", "[0,8]") + "}", data), "needs 0 bytes"},
      // 2^62 floats wrap around to 0 bytes, and 2^31 * 2^31 * 4 * 2 * 2 too.
      {raw_file("{" + one("F32", "[4611686018427387904]", "[0,0]") + "}", ""), "2^63"},
      {raw_file("{" + one("F32", "[2147483648,2147483648,4]", "[0,0]") + "}", ""), "2^63"},
      {raw_file("{" + one("F32", "[18446744073709551615]", "[0,8]") + "}", data), "2^63"},
      {raw_file("{" + one("F32", "[18446744073709551616]", "[0,8]") + "}", data),
       "size of a shape"},
      {raw_file("{" + one("F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]") + "}", data), "9 axes"},
      {raw_file("{" + one("F32", "[2]", "[8,0]") + "}", data), "before they begin"},
      {raw_file("{" + good + "}", data.substr(1)), "is the file cut off"},
      {raw_file("{" + good + "}", data + "!"), "1 bytes follow the last tensor"},
      {raw_file("{" + one("F32", "[1]", "[4,8]") + "}", data), "leave a hole"},
      {raw_file(
           "{" + one("F32", "[1]", "[0,4]", "a") + "," + one("F32", "[2]", "[8,16]", "b") + "}",
           data + data),
       "tensor \"b\": its bytes begin at 8 but leave a hole"},
      {raw_file(
           "{" + one("F32", "[2]", "[0,8]", "a") + "," + one("F32", "[2]", "[4,12]", "b") + "}",
           data + "1234"),
       "tensor \"b\": its bytes begin at 4 but overlap"},
      {raw_file("{" + good + "," + one("F32", "[2]", "[0,8]", "y") + "}", data), "overlap"},
      {raw_file("{" + one("BOOL", "[2]", "[0,2]") + "}", "\x01\x02"), "neither 0 nor 1"},
  };
  for (const Case& bad : cases) {
    write_raw(path, bad.bytes);
    CAPTURE(bad.reason);
    CHECK_THROWS_AS(load_safetensors(path), InputError);
    CHECK_THROWS_WITH(load_safetensors(path), contains(bad.reason) && contains(path));
  }
}

TEST_CASE("safetensors: every cut and every flipped byte of a header ends in InputError", "[io]") {
  const TempFolder folder;
  TensorMap map;
  map.set("a", Tensor<float>({2, 3}, {1, 2, 3, 4, 5, 6}));
  map.set("b", Tensor<std::int64_t>({2}, {1, 2}));
  save_safetensors(folder / "good", map);
  const std::string bytes = read_file(folder / "good");
  const std::string path = folder / "bad";
  for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
    write_raw(path, bytes.substr(0, cut));
    CHECK_THROWS_AS(load_safetensors(path), InputError);
  }
  const std::size_t header_end = bytes.size() - 40;
  std::size_t passed = 0;
  for (std::size_t at = 0; at < header_end; ++at) {
    std::string bad = bytes;
    bad[at] = static_cast<char>(bad[at] ^ 0x15);
    write_raw(path, bad);
    std::size_t tensors = 2;
    try {
      tensors = load_safetensors(path).size();
      ++passed;
    } catch (const InputError&) {
    }
    CHECK(tensors == 2);
  }
  // Harmless only inside the names "a" and "b", the metadata's "format" and "pt", and where one
  // four- or eight-byte type becomes another.
  CHECK(passed >= 10);
  CHECK(passed <= 14);
}

TEST_CASE("safetensors: files that cannot be opened", "[io]") {
  const TempFolder folder;
  CHECK_THROWS_AS(load_safetensors(folder / "none"), InputError);
  CHECK_THROWS_WITH(load_safetensors(folder / "none"), contains("it does not exist"));
  CHECK_THROWS_AS(load_safetensors(folder.path()), InputError);
}
