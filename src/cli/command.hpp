// A subcommand of `parsimony`: its options bound to variables, and what it does. A file per command
// defines a function that returns one; app.cpp lists them and is the only file that knows the
// parser.
//
//   Command greet_command() {
//     struct Settings { std::string name; int times = 1; };
//     auto s = std::make_shared<Settings>();
//     Command c;
//     c.name = "greet";
//     c.summary = "Say hello";
//     c.examples = {"parsimony greet Ann --times 3"};
//     c.options = {{"NAME", "", "whom to greet", &s->name, true},
//                  {"--times", "N", "how often (1)", &s->times}};
//     c.action = [s] { ...; return 0; };
//     return c;
//   }
//
// An action returns the exit code, or throws: InputError, ValueError and ShapeError become 2,
// NumericalError 3, Interrupted 130, any other error 1; the message goes to stderr. Results go to
// stdout through std::fputs/fmt::print, everything else to stderr.
#pragma once

#include <parsimony/tensor.hpp>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace parsimony::cli {

/// Where the text of an option goes. Numbers are parsed alike in every locale; a flag (bool) takes
/// no value; a list takes one value or more, and may be given again. An optional stays empty where
/// the option is left out, so that every value that is given can be checked.
using Target =
    std::variant<bool*, std::string*, std::vector<std::string>*, int*, index_t*, std::uint64_t*,
                 double*, std::optional<index_t>*, std::optional<double>*>;

struct Option {
  std::string name;   // "--seed"; without dashes ("NAME") it is positional
  std::string value;  // what help calls the value: "N", "DIR"; empty for flags and positionals
  std::string help;
  Target target;
  bool required = false;
  /// A list option that takes all values up to the next option, not one each time it is given.
  bool many = false;
};

struct Command {
  std::string name;
  std::string summary;
  std::string details;  // a paragraph in --help; may be empty
  std::vector<std::string> examples;
  std::vector<Option> options;
  std::function<int()> action;
};

/// The whole program: parses, runs the command, reports errors; returns the exit code.
int main(int argc, const char* const* argv);

Command run_command();
Command list_command();
Command show_command();
Command report_command();
Command complete_command();
Command tokenize_command();
Command pretrain_command();
Command finetune_command();
Command evaluate_command();
Command predict_command();
Command compress_command();
Command generate_command();
Command perplexity_command();
Command merge_command();
Command export_command();
Command inspect_command();
Command bench_command();
Command doctor_command();

// --- What several commands share (support.cpp) --------------------------------------------------

/// Options with the same name and meaning everywhere.
Option json_option(bool* target);
Option quiet_option(bool* target);
Option data_option(std::string* target);
Option threads_option(int* target);
/// Sets the threads; `threads_unset` keeps the default. @throws ValueError unless 1..1024.
constexpr int threads_unset = -1000000;
void apply_threads(int threads);
/// @throws ValueError unless it is in 0..1e6.
void check_checkpoint_seconds(double seconds);
/// @throws InputError unless the folder given with --data exists; "" is fine.
void check_data_folder(const std::string& folder);

/// True if stdout is a terminal that may be coloured: NO_COLOR is respected.
bool color_on_stdout();
/// Columns of the terminal on stdout; 100 elsewhere.
int stdout_width();

}  // namespace parsimony::cli
