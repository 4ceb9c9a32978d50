// fork and exec with the streams in unlinked files (no pipe can fill up), or on a pseudo-terminal.
#include "cli/process.hpp"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

namespace parsimony::testing {

namespace {

int unlinked_file() {
  char path[] = "/tmp/parsimony-test-XXXXXX";
  const int file = mkstemp(path);
  if (file < 0) throw std::runtime_error("mkstemp failed");
  unlink(path);
  return file;
}

std::string content(int file) {
  std::string text;
  char buffer[4096];
  lseek(file, 0, SEEK_SET);
  for (ssize_t got; (got = read(file, buffer, sizeof(buffer))) > 0;) {
    text.append(buffer, static_cast<std::size_t>(got));
  }
  return text;
}

// A terminal's master ends with an error, not an end of file, when the other side is gone.
std::string drain(int terminal) {
  std::string text;
  char buffer[4096];
  for (ssize_t got; (got = read(terminal, buffer, sizeof(buffer))) > 0;) {
    text.append(buffer, static_cast<std::size_t>(got));
  }
  return text;
}

}  // namespace

Process::Process(const char* program, const std::vector<std::string>& arguments,
                 const Environment& environment) {
  const char* const path = std::getenv(program);
  if (path == nullptr) throw std::runtime_error(std::string("set ") + program);
  std::vector<char*> argv = {const_cast<char*>(path)};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  if (!environment.terminal) {
    out_ = unlinked_file();
    err_ = unlinked_file();
  }
  winsize size{};
  size.ws_col = 100;
  size.ws_row = 30;
  id_ = environment.terminal ? forkpty(&out_, nullptr, nullptr, &size) : fork();
  if (id_ < 0) throw std::runtime_error("fork failed");
  if (id_ > 0) return;
  if (!environment.terminal) {
    dup2(out_, STDOUT_FILENO);
    dup2(err_, STDERR_FILENO);
  }
  for (const std::string& name : environment.unset) unsetenv(name.c_str());
  for (const auto& [name, value] : environment.set) setenv(name.c_str(), value.c_str(), 1);
  if (environment.before) environment.before();
  execv(path, argv.data());
  _exit(127);
}

Process::~Process() {
  if (id_ > 0) {
    kill(id_, SIGKILL);
    waitpid(id_, nullptr, 0);
  }
  if (out_ >= 0) close(out_);
  if (err_ >= 0) close(err_);
}

void Process::send(int signal) const { kill(id_, signal); }

Outcome Process::finish() {
  Outcome outcome;
  if (err_ < 0) outcome.out = drain(out_);
  int status = 0;
  waitpid(id_, &status, 0);
  id_ = -1;
  if (WIFEXITED(status)) outcome.code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
  if (err_ >= 0) {
    outcome.out = content(out_);
    outcome.err = content(err_);
  }
  return outcome;
}

Outcome probe(const std::vector<std::string>& arguments, const Environment& environment) {
  return Process("PARSIMONY_PROBE", arguments, environment).finish();
}

Outcome program(const std::vector<std::string>& arguments, const Environment& environment) {
  return Process("PARSIMONY_PROGRAM", arguments, environment).finish();
}

}  // namespace parsimony::testing
