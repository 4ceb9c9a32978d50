// Tables of texts: the sentences and labels that a user brings as TSV, CSV or JSON lines. Every
// field is text; what cannot be used is refused with its file and line.
//
// TSV   One row a line, fields between tabs, quotes are characters like others (as in GLUE).
// CSV   RFC 4180: a field in quotes may hold commas, newlines and doubled quotes.
// JSONL One object a line; strings, numbers, true and false are fields. Keys are the columns.
//
// All three: UTF-8, with or without a byte order mark, lines end in LF or CRLF, the last may lack
// its newline. Blank lines do not count.
#pragma once

#include <parsimony/tensor.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace parsimony {

struct TextFormat {
  /// detect: by the name's end, ".csv" is CSV, ".jsonl", ".ndjson" and ".json" are JSONL, all else
  /// TSV. GLUE's STS-B calls its TSV files ".csv": say tsv there.
  enum class Kind { detect, tsv, csv, jsonl };
  Kind kind = Kind::detect;
  /// detect: the first row is a header if a column is chosen by a name, or if it has usual names
  /// ("label", "score", ... in one field, or "sentence1", "text", "id", ... in all). JSONL has
  /// none.
  enum class Header { detect, yes, no };
  Header header = Header::detect;
  /// The columns to keep, in this order: names of the header (keys), or numbers from 1. Empty: all.
  std::vector<std::string> columns;
  /// Rows may have columns beyond the chosen ones (STS-B has 7 or 9).
  bool extra_columns = false;
  /// Blank lines of TSV below the header are rows of empty fields instead of nothing.
  bool keep_blank_lines = false;
};

/// What was read: rows of the chosen columns.
struct TextTable {
  std::string file;                            // for messages
  std::vector<std::string> columns;            // their names, or "1", "2", ... without a header
  bool has_names = false;                      // there was a header, or keys
  std::vector<std::vector<std::string>> rows;  // rows[i][k] is column k
  std::vector<index_t> lines;                  // where row i begins, from 1

  index_t size() const { return static_cast<index_t>(rows.size()); }
  /// "train.tsv, line 7": how messages about row i begin.
  std::string where(std::size_t row) const;
};

/// Reads a table. @throws InputError if the file is missing, empty, compressed or UTF-16; with the
/// line if it holds a NUL byte, invalid UTF-8, another number of columns than expected, a quote
/// that is never closed (the line where it opened), or no JSON object of fields; if a chosen column
/// is not there (the nearest name is suggested), or there is no row.
/// @throws ValueError on a format that contradicts itself.
TextTable read_text_table(const std::string& path, const TextFormat& format = {});
/// The same on bytes at hand; `name` stands for the file, also where its end tells the kind.
TextTable parse_text_table(const std::string& name, std::string_view bytes,
                           const TextFormat& format = {});

/// What the name of a column tells about it.
enum class TextColumn { text, label, id, unknown };
/// By usual names, however they are spelled: "Sentence_A", "gold label", "pair_ID".
TextColumn usual_text_column(std::string_view name);
/// 1 or 2 where a usual name says which text of a pair it is ("premise", "sentence2"), else 0.
int usual_text_order(std::string_view name);

}  // namespace parsimony
