// The grammar of RFC 4180, see the header.
#include "io/csv_scanner.hpp"

#include <parsimony/error.hpp>
#include <parsimony/input_files.hpp>

#include <algorithm>

#include <fmt/format.h>

namespace parsimony::detail {

CsvScanner::CsvScanner(const std::string& name, std::string_view text) : name_(name), text_(text) {
  check_no_nul(name_, text_);
}

bool CsvScanner::next(std::vector<std::string>& fields) {
  while (at_ < text_.size() && end_of_line()) {
  }
  if (at_ >= text_.size()) return false;
  start_ = line_;
  fields.clear();
  do {
    fields.emplace_back();
    at_ < text_.size() && text_[at_] == '"' ? quoted(fields.back()) : plain(fields.back());
  } while (comma());
  if (at_ < text_.size() && !end_of_line()) fail("text after a closing quote");
  return true;
}

void CsvScanner::fail(const std::string& reason) const {
  throw InputError(fmt::format("csv: '{}', line {}: {}", name_, line_, reason));
}

bool CsvScanner::end_of_line() {
  const std::size_t rest = text_.size() - at_;
  if (text_[at_] == '\r' && (rest == 1 || text_[at_ + 1] == '\n')) ++at_;
  if (at_ == text_.size()) return true;
  if (text_[at_] != '\n') return false;
  ++at_;
  ++line_;
  return true;
}

bool CsvScanner::comma() {
  if (at_ >= text_.size() || text_[at_] != ',') return false;
  ++at_;
  return true;
}

void CsvScanner::plain(std::string& field) {
  std::size_t end = std::min(text_.find_first_of(",\n", at_), text_.size());
  // The carriage return of a CRLF belongs to the line's end.
  const bool last = end == text_.size() || text_[end] == '\n';
  if (last && end > at_ && text_[end - 1] == '\r') --end;
  field = text_.substr(at_, end - at_);
  if (field.find('"') != std::string::npos) fail("a quote inside a field that is not quoted");
  at_ = end;
}

void CsvScanner::quoted(std::string& field) {
  const std::size_t opened = line_;
  for (++at_; at_ < text_.size(); ++at_) {
    if (text_[at_] == '"') {
      ++at_;
      if (at_ >= text_.size() || text_[at_] != '"') return;
    } else if (text_[at_] == '\n') {
      ++line_;
    }
    field += text_[at_];
  }
  line_ = opened;
  fail("a quote is never closed");
}

}  // namespace parsimony::detail
