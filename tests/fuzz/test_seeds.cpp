// Every fuzz target on its seeds, as ordinary tests.
#include <parsimony/files.hpp>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "fuzz/targets.hpp"
#include "support/catch.hpp"

using namespace parsimony;

TEST_CASE("fuzz: the seeds") {
  const std::vector<std::pair<std::string, void (*)(fuzz::Input)>> targets = {
      {"bpe", fuzz::bpe},       {"config", fuzz::config},       {"safetensors", fuzz::safetensors},
      {"tables", fuzz::tables}, {"tokenizer", fuzz::tokenizer},
  };
  const std::filesystem::path folder =
      std::filesystem::path(PARSIMONY_SOURCE_ROOT) / "tests" / "fuzz" / "seeds";
  std::size_t folders = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    folders += entry.is_directory();
  CHECK(folders == targets.size());
  for (const auto& [name, run] : targets) {
    std::vector<std::string> seeds;
    for (const auto& file : std::filesystem::directory_iterator(folder / name)) {
      seeds.push_back(file.path().string());
    }
    std::sort(seeds.begin(), seeds.end());
    CHECK(seeds.size() >= 3);
    for (const std::string& seed : seeds) {
      INFO(seed);
      const std::string bytes = read_file(seed);
      const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
      CHECK_NOTHROW(run({data, bytes.size()}));
    }
  }
}
