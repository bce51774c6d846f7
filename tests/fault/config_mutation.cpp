#include "fault/config_mutation.h"

#include <algorithm>
#include <functional>
#include <sstream>
#include <utility>

namespace espalier {
namespace {

using Random = std::mt19937_64;

size_t below(Random& random, size_t limit) { return static_cast<size_t>(random() % limit); }

const std::string& one_of(Random& random, const std::vector<std::string>& choices) {
  return choices[below(random, choices.size())];
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

bool has_value(const std::string& line) {
  return !line.empty() && line[0] != '#' && line[0] != '[' && line.find(" = ") != std::string::npos;
}

// Mutations work on the lines; those about a value get one that has a value.
class Mutator {
 public:
  Mutator(std::vector<std::string> lines, Random& random)
      : lines_(std::move(lines)), random_(random) {}

  std::string mutate() {
    struct Mutation {
      const char* name;
      std::function<void()> run;
    };
    const std::vector<Mutation> mutations = {
        {"key deleted", [&] { lines_.erase(lines_.begin() + any_value()); }},
        {"line deleted", [&] { lines_.erase(lines_.begin() + any_line()); }},
        {"line doubled", [&] { double_line(any_line()); }},
        {"key doubled", [&] { double_line(any_value()); }},
        {"lines swapped", [&] { std::swap(line(any_line()), line(any_line())); }},
        {"other type", [&] { set(other_type()); }},
        {"out of range", [&] { set(number()); }},
        {"odd text", [&] { set(odd_text()); }},
        {"nan or inf",
         [&] {
           set(one_of(random_, {"nan", "inf", "-inf", "+nan"}));
         }},
        {"empty",
         [&] {
           set(one_of(random_, {"[]", "\"\"", "{}", "[[]]", "[\"\"]"}));
         }},
        {"wrong path", [&] { set(wrong_path()); }},
        {"list or text", [&] { list_or_text(); }},
        {"another's name", [&] { another_name(); }},
        {"unknown key", [&] { insert("k" + std::to_string(random_()) + " = 1"); }},
        {"unknown table", [&] { insert("[" + one_of(random_, kTables) + ".other]"); }},
        {"table without a name", [&] { insert("[" + one_of(random_, kTables) + "]"); }},
        {"entry",
         [&] {
           insert("[[" + one_of(random_, {"stage", "stage.objectives", "data"}) + "]]");
         }},
        {"byte", [&] { any_byte(); }},
        {"cut", [&] { lines_.resize(std::max<size_t>(1, below(random_, lines_.size()))); }}};
    const Mutation& chosen = mutations[below(random_, mutations.size())];
    chosen.run();
    return chosen.name;
  }

  std::string text() const {
    std::string text;
    for (const std::string& each : lines_) text += each + "\n";
    return text;
  }

 private:
  inline static const std::vector<std::string> kTables = {
      "data", "text", "model", "teacher", "episodes", "stage", "run", "compute", "checkpoint"};

  std::string& line(long at) { return lines_[static_cast<size_t>(at)]; }
  long any_line() {
    if (lines_.empty()) lines_.emplace_back();
    return static_cast<long>(below(random_, lines_.size()));
  }
  long any_value() {
    for (int attempt = 0; attempt < 1000; ++attempt) {
      const long at = any_line();
      if (has_value(line(at))) return at;
    }
    return any_line();
  }
  void double_line(long at) { lines_.insert(lines_.begin() + at, std::string(line(at))); }
  void insert(const std::string& text) { lines_.insert(lines_.begin() + any_line(), text); }
  void set(const std::string& value) {
    std::string& chosen = line(any_value());
    chosen = chosen.substr(0, chosen.find(" = ")) + " = " + value;
  }

  std::string other_type() {
    return one_of(random_, {"true", "\"text\"", "3", "1.5", "[1]", "[\"a\", 1]", "{ a = 1 }",
                            "1979-05-27", "07:32:00", "[[1, 2], [3]]", "[{ kind = \"draw\" }]"});
  }
  std::string number() {
    return one_of(random_, {"-1", "0", "1", "2", "7", "1000", "1000000", "1000000000000000000",
                            "9223372036854775807", "-9223372036854775808", "99999999999999999999",
                            "1e308", "-1e308", "1e-308", "0.5", "-0.0", "0xffffffff"});
  }
  std::string odd_text() {
    const std::vector<std::string> odd = {"\"a\\u0000b\"",
                                          "\"" + std::string(5000, 'x') + "\"",
                                          "\"" + std::string(300, 'x') + "/y\"",
                                          "\"\xff\xfe\"",
                                          "\"\xf0\x9f\x8c\xb3\"",
                                          "\"a\\nb\"",
                                          "'''\n'''",
                                          "\"../../..\"",
                                          "\"*\"",
                                          "\"[\"",
                                          "\"{0..99999999}\"",
                                          "\"a.b.c\"",
                                          "\" \"",
                                          "\"unterminated"};
    return one_of(random_, odd);
  }
  std::string wrong_path() {
    return one_of(random_, {"\"no/such.tar\"", "\"/\"", "\"/dev/null\"", "\"data\"",
                            "\"/proc/1/mem\"", "\"tests/fault/tiny.toml\"", "\"configs/\"",
                            "\"/none/at/all\"", "\"data/emoji/*.txt\"", "\"README.md\""});
  }
  void list_or_text() {
    std::string& chosen = line(any_value());
    const size_t at = chosen.find(" = ");
    const std::string value = at == std::string::npos ? "" : chosen.substr(at + 3);
    if (value.empty()) return;
    const bool is_list = value.front() == '[' && value.back() == ']';
    chosen = chosen.substr(0, at) + " = " +
             (is_list ? value.substr(1, value.size() - 2) : "[" + value + ", " + value + "]");
  }
  void another_name() {
    const std::vector<std::string> names = {
        "\"emoji\"",  "\"names\"",          "\"tokenizer\"",          "\"y\"",    "\"codes\"",
        "\"both\"",   "\"understanding\"",  "\"generation\"",         "\"draw\"", "\"caption\"",
        "\"answer\"", "\"masked_patches\"", "\"residual_evolution\"", "\"none\"", "\"y_decoder\""};
    std::string& chosen = line(any_value());
    const size_t at = chosen.find(" = \"");
    if (at != std::string::npos) chosen = chosen.substr(0, at) + " = " + one_of(random_, names);
  }
  void any_byte() {
    std::string& chosen = line(any_line());
    if (chosen.empty()) return;
    chosen[below(random_, chosen.size())] = static_cast<char>(random_());
  }

  std::vector<std::string> lines_;
  Random& random_;
};

}  // namespace

MutatedConfig mutate_config(const std::string& text, std::mt19937_64& random) {
  Mutator mutator(lines_of(text), random);
  MutatedConfig mutated;
  const size_t count = 1 + below(random, 3);
  for (size_t i = 0; i < count; ++i) {
    mutated.mutations += (i > 0 ? ", " : "") + mutator.mutate();
  }
  mutated.text = mutator.text();
  return mutated;
}

}  // namespace espalier
