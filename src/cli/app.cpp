// The program: finds the command, parses its options, runs it, and turns errors into exit codes:
// 0 done, 1 failed, 2 usage or bad input, 3 numerical failure, 130 interrupted after saving.
#include <parsimony/config.hpp>
#include <parsimony/error.hpp>
#include <parsimony/version.hpp>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <clocale>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <new>

#include <fmt/format.h>

#include "cli/command.hpp"
#include "cli/finetune_many.hpp"

namespace parsimony::cli {

namespace {

enum ExitCode { done = 0, failed = 1, bad_input = 2, diverged = 3, interrupted = 130 };

int complain(int code, const std::string& message) {
  std::fprintf(stderr, "parsimony: %s\n", message.c_str());
  return code;
}

template <class Number>
Number parse_number(const std::string& option, const char* expected, const std::string& text) {
  Number number{};
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  bool ok = error == std::errc() && stop == end;
  if constexpr (std::is_floating_point_v<Number>) ok = ok && std::isfinite(number);
  if (!ok) throw ValueError(fmt::format("{}: expected {}; got '{}'", option, expected, text));
  return number;
}

// Numbers are taken as texts and parsed here, for one form of message and no locale.
void store(const Option& option, const std::string& text) {
  const std::string& name = option.name;
  const Target& target = option.target;
  // A variable that a script left unset must not pass for an option that was left out.
  if (text.empty() && !option.value.empty() && option.value != "TEXT") {
    throw ValueError(fmt::format("{}: expected {}; got ''", name,
                                 option.value == "DIR"    ? "a folder"
                                 : option.value == "FILE" ? "a file"
                                                          : option.value));
  }
  if (const auto* to = std::get_if<std::string*>(&target)) {
    **to = text;
  } else if (const auto* list = std::get_if<std::vector<std::string>*>(&target)) {
    (*list)->push_back(text);
  } else if (const auto* whole = std::get_if<int*>(&target)) {
    **whole = parse_number<int>(name, "a whole number", text);
  } else if (const auto* large = std::get_if<index_t*>(&target)) {
    **large = parse_number<index_t>(name, "a whole number", text);
  } else if (const auto* natural = std::get_if<std::uint64_t*>(&target)) {
    **natural = parse_number<std::uint64_t>(name, "a whole number from 0", text);
  } else if (const auto* maybe_large = std::get_if<std::optional<index_t>*>(&target)) {
    **maybe_large = parse_number<index_t>(name, "a whole number", text);
  } else if (const auto* maybe_real = std::get_if<std::optional<double>*>(&target)) {
    **maybe_real = parse_number<double>(name, "a number", text);
  } else {
    *std::get<double*>(target) = parse_number<double>(name, "a number", text);
  }
}

constexpr int any_number = CLI::detail::expected_max_vector_size;

// Paragraphs broken at 80 columns.
std::string wrapped(const std::string& text) {
  std::string out, word;
  std::size_t column = 0;
  const auto end_word = [&] {
    if (column > 0 && column + 1 + word.size() > 80) {
      out += "\n";
      column = 0;
    } else if (column > 0) {
      out += " ";
      ++column;
    }
    out += word;
    column += word.size();
    word.clear();
  };
  for (const char c : text) {
    if (c == '\n' || c == ' ') {
      if (!word.empty()) end_word();
      if (c == '\n') {
        out += c;
        column = 0;
      }
    } else {
      word += c;
    }
  }
  if (!word.empty()) end_word();
  return out + "\n";
}

CLI::App* add_command(CLI::App& app, const Command& command) {
  CLI::App* sub = app.add_subcommand(command.name, command.summary);
  sub->allow_extras();  // so that what is not known can be answered with the nearest option
  for (const Option& option : command.options) {
    if (const auto* flag = std::get_if<bool*>(&option.target)) {
      sub->add_flag(option.name, **flag, option.help);
      continue;
    }
    const bool list = std::holds_alternative<std::vector<std::string>*>(option.target);
    CLI::callback_t take = [option](const CLI::results_t& texts) {
      for (const std::string& text : texts) store(option, text);
      return true;
    };
    CLI::Option* added = sub->add_option(option.name, take, option.help);
    added->type_name(option.value)->required(option.required);
    if (list) {
      // A positional list takes what follows; an option takes one value each time it is given,
      // unless it says otherwise.
      const bool positional = option.name.compare(0, 1, "-") != 0;
      const bool all = positional || option.many;
      added->allow_extra_args(all)->expected(1, all ? any_number : 1);
      if (!all) added->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    }
  }
  // Every command takes --quiet, also those that are quiet anyway: scripts hand it to all.
  const bool knows_quiet =
      std::any_of(command.options.begin(), command.options.end(),
                  [](const Option& option) { return option.name == "--quiet"; });
  if (!knows_quiet) sub->add_flag("--quiet")->description(quiet_option(nullptr).help);
  // Details go below the options: a description would also show in the list of commands.
  std::string footer = command.details.empty() ? "" : wrapped(command.details) + "\n";
  footer += "Examples:";
  for (const std::string& example : command.examples) footer += "\n  " + example;
  sub->footer(footer);
  return sub;
}

// The first word that the command does not know, with the nearest that it does.
void refuse_extras(const Command& command, const std::vector<std::string>& extras) {
  if (extras.empty()) return;
  const std::string& word = extras.front();
  const std::string what = word.substr(0, word.find('='));
  if (word.size() < 2 || word[0] != '-') {
    throw ValueError(fmt::format("{0}: unexpected argument '{1}'; see parsimony {0} --help",
                                 command.name, word));
  }
  std::vector<std::string> names = {"--help", "--quiet"};
  for (const Option& option : command.options) {
    if (option.name[0] == '-') names.push_back(option.name);
  }
  const std::string near = nearest_name(what, names);
  throw ValueError(fmt::format("{}: unknown option '{}'; {}", command.name, what,
                               near.empty() ? fmt::format("see parsimony {} --help", command.name)
                                            : fmt::format("did you mean '{}'?", near)));
}

void check_command_word(const std::vector<Command>& commands, int argc, const char* const* argv) {
  if (argc < 2 || argv[1][0] == '-') return;
  const std::string word = argv[1];
  std::vector<std::string> names;
  for (const Command& command : commands) {
    if (command.name == word) return;
    names.push_back(command.name);
  }
  const std::string near = nearest_name(word, names);
  throw ValueError(
      fmt::format("unknown command '{}'; {}", word,
                  near.empty() ? "see parsimony --help" : fmt::format("did you mean '{}'?", near)));
}

int run(int argc, const char* const* argv) {
  const std::vector<Command> commands = {
      run_command(),      list_command(),     show_command(),     report_command(),
      complete_command(), tokenize_command(), pretrain_command(), finetune_command(),
      evaluate_command(), predict_command(),  generate_command(), perplexity_command(),
      compress_command(), merge_command(),    export_command(),   inspect_command(),
      bench_command(),    doctor_command()};
  CLI::App app(
      "Reproduces 'Compressible Dynamics in Deep Overparameterized Low-Rank Learning & "
      "Adaptation' (arXiv 2406.04112).",
      "parsimony");
  app.require_subcommand(1);
  app.set_version_flag("--version", "parsimony " + version());
  app.footer(
      "Examples:\n  parsimony list\n  parsimony run dln-subspace --preset smoke\n"
      "  parsimony run all --out results\n\nparsimony COMMAND --help tells more.");
  std::vector<CLI::App*> subs;
  for (const Command& command : commands) subs.push_back(add_command(app, command));
  try {
    check_command_word(commands, argc, argv);
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {  // --help, --version
    return app.exit(help);
  } catch (const CLI::RequiredError& error) {
    if (argc < 2) return std::fputs(app.help().c_str(), stderr), bad_input;
    return complain(bad_input, error.what());
  } catch (const CLI::ParseError& error) {
    return complain(bad_input, error.what());
  }
  for (std::size_t i = 0; i < commands.size(); ++i) {
    if (!*subs[i]) continue;
    refuse_extras(commands[i], subs[i]->remaining());
    return commands[i].action();
  }
  return bad_input;
}

}  // namespace

int main(int argc, const char* const* argv) {
  std::setlocale(LC_ALL, "C");  // numbers have a point, whatever the environment says
  // A file at the limit of its size (ulimit -f) is a write that fails, and says so.
  std::signal(SIGXFSZ, SIG_IGN);
  int code = failed;
  try {
    remember_arguments(argc, argv);
    code = run(argc, argv);
  } catch (const NumericalError& error) {
    code = complain(diverged, error.what());
  } catch (const Interrupted& error) {
    code = complain(interrupted, error.what());
  } catch (const InputError& error) {
    code = complain(bad_input, error.what());
  } catch (const ValueError& error) {
    code = complain(bad_input, error.what());
  } catch (const ShapeError& error) {
    code = complain(bad_input, error.what());
  } catch (const std::bad_alloc&) {
    code = complain(failed, "out of memory");
  } catch (const std::exception& error) {
    code = complain(failed, error.what());
  }
  // A full disk behind stdout shows only now.
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    const int lost = complain(failed, "cannot write to stdout");
    if (code == done) code = lost;
  }
  return code;
}

}  // namespace parsimony::cli
