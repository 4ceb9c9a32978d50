// parsimony report DIR: the page about the runs in a folder.
#include <parsimony/report.hpp>

#include <memory>

#include <fmt/format.h>

#include "cli/command.hpp"

namespace parsimony::cli {

Command report_command() {
  auto folder = std::make_shared<std::string>();
  Command c;
  c.name = "report";
  c.summary = "Write DIR/report.html from the runs in DIR";
  c.details =
      "The page is one file with every figure inside; its path is printed. Files of a run\n"
      "that cannot be read are named in it and on stderr, and the exit code is then 1.";
  c.examples = {"parsimony report results"};
  c.options = {{"DIR", "", "folder of run folders, as given to run --out", folder.get(), true}};
  c.action = [folder] {
    const Report written = write_report(*folder);
    fmt::print("{}\n", written.path);
    for (const std::string& damage : written.damage) {
      fmt::print(stderr, "warning: {}\n", damage);
    }
    return written.damage.empty() ? 0 : 1;
  };
  return c;
}

}  // namespace parsimony::cli
