// Renders the page. Everything that comes from files passes through text::html or text::link; the
// content policy in the head forbids scripts and anything fetched, so that the page stays what it
// is even if a file was made to break out of it.
#include "report/html.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "report/page_style.hpp"
#include "report/text.hpp"

namespace parsimony::report {
namespace {

using text::html;

const char* verdict_class(Claim::Verdict v) {
  return v == Claim::holds ? "holds" : v == Claim::fails ? "fails" : "open";
}

std::string verdict_badge(Claim::Verdict v) {
  const char* sign = v == Claim::holds ? "✓" : v == Claim::fails ? "✗" : "○";
  return fmt::format("<span class=\"verdict {}\"><span aria-hidden=\"true\">{} </span>{}</span>",
                     verdict_class(v), sign, verdict_word(v));
}

std::string run_anchor(std::size_t i) { return fmt::format("run-{}", i + 1); }

std::string value_of(const KeyValues& pairs, const std::string& key) {
  for (const auto& [k, v] : pairs) {
    if (k == key) return v;
  }
  return "";
}

std::string file_link(const PageRun& run, const std::string& file) {
  return fmt::format("<a href=\"{}\">{}</a>", text::link(run.prefix + file), html(file));
}

std::string size_text(std::uintmax_t bytes) {
  if (bytes < 1000) return fmt::format("{} B", bytes);
  const double kb = static_cast<double>(bytes) / 1000;
  if (kb < 1000) return fmt::format("{:.3g} kB", kb);
  return kb < 1e6 ? fmt::format("{:.3g} MB", kb / 1e3) : fmt::format("{:.3g} GB", kb / 1e6);
}

std::string key_table(const KeyValues& pairs) {
  std::string out = "<div class=\"scroll\"><table class=\"pairs\"><tbody>\n";
  for (const auto& [key, value] : pairs) {
    out += fmt::format("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", html(key), html(value));
  }
  return out + "</tbody></table></div>\n";
}

// --- The parts of the page ---------------------------------------------------------------------

std::string counts(const std::vector<PageRun>& runs) {
  std::vector<Claim> all;
  for (const PageRun& run : runs) all.insert(all.end(), run.claims.begin(), run.claims.end());
  const ClaimCounts c = count_claims(all);
  return fmt::format(
      "<ul class=\"counts\" aria-label=\"Claims by verdict\">"
      "<li class=\"holds\"><strong>{}</strong>{}</li><li class=\"fails\"><strong>{}</strong>{}</li>"
      "<li class=\"open\"><strong>{}</strong>not run</li></ul>\n",
      c.holds, c.holds == 1 ? "holds" : "hold", c.fails, c.fails == 1 ? "fails" : "fail",
      c.not_run);
}

std::string contents(const std::vector<PageRun>& runs) {
  std::string out =
      "<nav aria-label=\"Contents\"><ul>\n<li><a href=\"#claims\">Claims</a></li>\n"
      "<li><a href=\"#machine\">Machine and build</a></li>\n";
  for (std::size_t i = 0; i < runs.size(); ++i) {
    out += fmt::format("<li><a href=\"#{}\">{}</a></li>\n", run_anchor(i), html(runs[i].name));
  }
  return out + "</ul></nav>\n";
}

std::string claim_row(const Claim& c) {
  std::string details;
  if (!c.criterion.empty()) details += "Criterion: " + html(c.criterion);
  if (!c.source.empty()) {
    details += (details.empty() ? "" : " · ") + std::string("Source: ") + html(c.source);
  }
  if (!details.empty()) details = "<div class=\"criterion\">" + details + "</div>";
  return fmt::format(
      "<tr><td>{}</td><td>{}</td><td>{}{}</td><td data-name=\"expected\">{}</td>"
      "<td data-name=\"measured\">{}</td></tr>\n",
      verdict_badge(c.verdict), html(c.id), html(c.statement), details, html(c.expected),
      html(c.measured));
}

std::string claims_section(const std::vector<PageRun>& runs) {
  std::string out =
      "<section id=\"claims\"><h2>Claims</h2>\n<table class=\"claims\"><caption>What each run set "
      "out to show, the paper’s value or bound, and what this run measured.</caption>\n"
      "<thead><tr><th scope=\"col\">Verdict</th><th scope=\"col\">Id</th>"
      "<th scope=\"col\">Claim</th><th scope=\"col\">Expected</th>"
      "<th scope=\"col\">Measured</th></tr></thead>\n";
  for (std::size_t i = 0; i < runs.size(); ++i) {
    out += fmt::format(
        "<tbody><tr class=\"group\"><th colspan=\"5\" scope=\"rowgroup\"><a "
        "href=\"#{}\">{}</a></th></tr>\n",
        run_anchor(i), html(runs[i].name));
    for (const Claim& c : runs[i].claims) out += claim_row(c);
    if (runs[i].claims.empty()) {
      out += "<tr><td colspan=\"5\" class=\"soft\">no claims recorded</td></tr>\n";
    }
    out += "</tbody>\n";
  }
  return out + "</table></section>\n";
}

// The environment without what differs from run to run by nature.
KeyValues machine_of(const PageRun& run) {
  KeyValues out;
  for (const auto& [key, value] : run.environment) {
    if (key.rfind("date", 0) != 0) out.emplace_back(key, value);
  }
  return out;
}

// What the runs that know their machine have in common; `same` if that is all of it.
KeyValues common_machine(const std::vector<PageRun>& runs, bool& same) {
  KeyValues common;
  same = true;
  bool first = true;
  for (const PageRun& run : runs) {
    if (run.environment.empty()) continue;
    const KeyValues machine = machine_of(run);
    if (first) common = machine;
    first = false;
    for (auto& [key, value] : common) {
      if (value_of(machine, key) == value) continue;
      same = false;
      value = "differs; each run names its own below";
    }
    same = same && machine.size() == common.size();
  }
  return common;
}

std::string machine_section(const KeyValues& machine) {
  return "<section id=\"machine\"><h2>Machine and build</h2>\n" +
         (machine.empty() ? "<p>No run recorded its environment.</p>\n" : key_table(machine)) +
         "</section>\n";
}

std::string figure_html(const PageRun& run, const PageFigure& f) {
  const std::string title = f.text.title.empty() ? f.name : f.text.title;
  std::string alt = f.text.alt;
  if (alt.empty()) alt = "Figure: " + title + ". " + f.text.caption;
  std::string out = "<figure>";
  if (f.media_type.empty()) {
    out += "<p class=\"note\">This figure was not drawn: install gnuplot, then run <code>gnuplot " +
           html(f.name) + ".gp</code> in the folder of the run.</p>";
  } else {
    std::string size;
    if (f.width > 0 && f.height > 0) {
      size = fmt::format(" width=\"{}\" height=\"{}\"", f.width, f.height);
    }
    out += fmt::format("<div class=\"card\"><img alt=\"{}\"{} src=\"data:{};base64,{}\"></div>",
                       html(alt), size, f.media_type, text::base64(f.picture));
  }
  out += "<figcaption><strong>" + html(title) + "</strong> " + html(f.text.caption);
  out += " <span class=\"small soft\">Files:";
  for (const std::string& file : f.files) out += " " + file_link(run, file);
  return out + "</span></figcaption></figure>\n";
}

std::string metrics_html(const PageRun& run) {
  if (run.metric_rows.empty()) return "";
  std::string out =
      "<details><summary>Last logged values</summary><div class=\"scroll\"><table "
      "class=\"metrics\"><thead><tr>";
  for (const std::string& name : run.metric_names) {
    out += "<th scope=\"col\">" + html(name) + "</th>";
  }
  out += "</tr></thead><tbody>\n";
  for (const std::vector<std::string>& row : run.metric_rows) {
    out += "<tr>";
    for (const std::string& cell : row) out += "<td>" + html(cell) + "</td>";
    out += "</tr>\n";
  }
  return out + "</tbody></table></div></details>\n";
}

std::string run_section(const PageRun& run, std::size_t i, bool own_machine) {
  std::string out = fmt::format("<section id=\"{}\"><h2>{}</h2>\n", run_anchor(i), html(run.name));
  std::vector<std::string> facts;
  for (const char* key : {"preset", "seed"}) {
    const std::string value = value_of(run.config, key);
    if (!value.empty()) facts.push_back(std::string(key) + " " + html(value));
  }
  const std::string date = value_of(run.environment, "date");
  if (!date.empty()) facts.push_back("run on " + html(date));
  const ClaimCounts c = count_claims(run.claims);
  if (!run.claims.empty()) {
    facts.push_back(fmt::format("{} of {} claims hold", c.holds, run.claims.size()));
  }
  if (!facts.empty()) out += fmt::format("<p class=\"soft\">{}</p>\n", fmt::join(facts, " · "));
  if (!run.problems.empty()) {
    out += "<ul class=\"problems\">";
    for (const std::string& problem : run.problems) out += "<li>" + html(problem) + "</li>";
    out += "</ul>\n";
  }
  if (run.checkpoint) {
    out +=
        "<p class=\"note\">This folder holds a checkpoint: the run has not finished (go on with "
        "<code>--resume</code>), or was told to keep it.</p>\n";
  }
  for (const PageFigure& f : run.figures) out += figure_html(run, f);
  if (!run.config.empty()) {
    out += "<details><summary>Configuration</summary>" + key_table(run.config) + "</details>\n";
  }
  if (own_machine && !run.environment.empty()) {
    out += "<details><summary>Machine and build</summary>" + key_table(run.environment) +
           "</details>\n";
  }
  out += metrics_html(run);
  out += "<details><summary>Files</summary><ul class=\"small\">\n";
  for (const auto& [name, size] : run.files) {
    out += "<li>" + file_link(run, name) + " <span class=\"soft\">" + size_text(size) +
           "</span></li>\n";
  }
  return out + "</ul></details>\n</section>\n";
}

}  // namespace

std::string render_page(const std::vector<PageRun>& runs) {
  bool same = true;
  const KeyValues machine = common_machine(runs, same);
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
      "style-src 'unsafe-inline'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>Parsimony report</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>";
  out += page_style;
  out += "</style>\n</head>\n<body>\n<header><h1>Parsimony report</h1>\n";
  out += fmt::format(
      "<p class=\"soft\">{} {} of experiments on compressible dynamics in deep low-rank "
      "learning</p>\n",
      runs.size(), runs.size() == 1 ? "run" : "runs");
  out += counts(runs) + contents(runs) + "</header>\n<main>\n";
  out += claims_section(runs) + machine_section(machine);
  for (std::size_t i = 0; i < runs.size(); ++i) out += run_section(runs[i], i, !same);
  return out + "</main>\n</body>\n</html>\n";
}

}  // namespace parsimony::report
