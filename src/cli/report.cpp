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
  c.details = "The page is one file with every figure inside; its path is printed.";
  c.examples = {"parsimony report results"};
  c.options = {{"DIR", "", "folder of run folders, as given to run --out", folder.get(), true}};
  c.action = [folder] {
    fmt::print("{}\n", write_report(*folder));
    return 0;
  };
  return c;
}

}  // namespace parsimony::cli
