#pragma once

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace espalier {

// What an evaluation found, told so that whoever shows it (report, `evaluate --json`, TensorBoard,
// the status page) needs to know nothing of the objective that made it.

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

// What something else reaches on the same samples: chance, nearest pixels, the teacher alone.
struct Baseline {
  std::string label;
  double value = kUnknown;
};

// One number.
struct Metric {
  std::string name;   // in JSON and TensorBoard: "accuracy"
  std::string label;  // for people: "right answers, held-out images"
  double value = kUnknown;
  double standard_error = kUnknown;  // over samples
  std::string unit = {};             // "dB"
  bool is_headline = false;          // also stands at the top of the report
  std::vector<Baseline> baselines = {};
  bool is_lower_better = false;  // a loss, an error: which of the baselines is the best
};

// One number for each of several places: PSNR by residual stages used.
struct Series {
  std::string name;
  std::string label;
  std::string axis;                 // what the places are: "stages of codes used"
  std::vector<std::string> places;  // "1", "2", …
  std::vector<double> values = {};  // as many
  std::string unit = {};
  std::vector<Baseline> baselines = {};  // each one line across all places
};

// Answers beside truths, and the like.
struct Table {
  std::string title;
  std::vector<std::string> columns = {};
  std::vector<std::vector<std::string>> rows = {};  // as wide as columns
};

struct Picture {
  std::string name;    // "reconstructions": the same at every evaluation
  std::string path;    // of the PNG file
  std::string legend;  // what its rows and columns are
};

struct Section {
  std::string name;   // of the objective in its stage: "caption"
  std::string title;  // "Captions"
  std::string text;   // one or two sentences: what was measured, on what
  std::vector<Metric> metrics = {};
  std::vector<Series> series = {};
  std::vector<Table> tables = {};
  std::vector<Picture> pictures = {};
};

// The best of the baselines that are known; nullptr where none is.
const Baseline* best_baseline(const Metric& metric);

// Numbers that are unknown or not finite are null in JSON.
nlohmann::json to_json(const Section& section);
nlohmann::json to_json(const std::vector<Section>& sections);
// Fields that are missing or of another type keep their defaults: the file may be older. Values and
// rows are cut or filled to the length that their section promises.
Section section_from_json(const nlohmann::json& json);
std::vector<Section> sections_from_json(const nlohmann::json& json);  // a list, else none

// Every known number by path, "accuracy", "psnr_db/3" (places counted from 1).
std::vector<std::pair<std::string, double>> numbers_of(const Section& section);

}  // namespace espalier
