#include "trainer/evaluation/combinations.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <numeric>
#include <string_view>

#include <torch/torch.h>

#include "trainer/evaluation/nearest_neighbours.h"
#include "trainer/evaluation/section.h"
#include "trainer/evaluation/standard_error.h"

namespace espalier {
namespace {

bool is_word_character(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

// "man" stands in "old man: bald" but not in "woman".
bool stands_in(std::string_view value, std::string_view text) {
  for (size_t at = text.find(value); at != std::string_view::npos; at = text.find(value, at + 1)) {
    const size_t end = at + value.size();
    const bool begins = at == 0 || !is_word_character(text[at - 1]);
    const bool ends = end == text.size() || !is_word_character(text[end]);
    if (begins && ends) return true;
  }
  return false;
}

int64_t longest_in(const std::vector<std::string>& values, const std::string& text) {
  int64_t longest = -1;
  size_t length = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i].size() <= length || !stands_in(values[i], text)) continue;
    longest = static_cast<int64_t>(i);
    length = values[i].size();
  }
  return longest;
}

std::vector<int64_t> row_of(const at::Tensor& labels, int64_t row) {
  const at::Tensor values = labels[row].contiguous();
  return {values.data_ptr<int64_t>(), values.data_ptr<int64_t>() + values.numel()};
}

}  // namespace

Combinations::Combinations(const std::vector<Sample>& training) {
  for (const Sample& sample : training) {
    parts_ = sample.texts("parts");
    if (!parts_.empty()) break;
  }
  for (const std::string& part : parts_) {
    std::vector<std::string> values;
    for (const Sample& sample : training) {
      if (!sample.text(part).empty()) values.push_back(sample.text(part));
    }
    values_.push_back(sorted_unique(std::move(values)));
  }
  for (const Sample& sample : training) seen_.insert(labels_of(sample));
}

const std::vector<std::string>& Combinations::values(int64_t part) const {
  return values_.at(static_cast<size_t>(part));
}

std::vector<int64_t> Combinations::labels_of(const Sample& sample) const {
  std::vector<int64_t> labels;
  for (size_t part = 0; part < parts_.size(); ++part) {
    const auto& values = values_[part];
    const std::string& value = sample.text(parts_[part]);
    const auto found = std::lower_bound(values.begin(), values.end(), value);
    labels.push_back(found == values.end() || *found != value ? -1 : found - values.begin());
  }
  return labels;
}

Novelty Combinations::novelty(const Sample& sample) const {
  const std::vector<int64_t> labels = labels_of(sample);
  if (labels.empty() || std::count(labels.begin(), labels.end(), -1) > 0) return Novelty::kNewPart;
  return seen_.contains(labels) ? Novelty::kSeen : Novelty::kNewCombination;
}

std::vector<int64_t> Combinations::of_novelty(const std::vector<Sample>& samples,
                                              Novelty novelty) const {
  std::vector<int64_t> chosen;
  for (size_t i = 0; i < samples.size(); ++i) {
    if (this->novelty(samples[i]) == novelty) chosen.push_back(static_cast<int64_t>(i));
  }
  return chosen;
}

at::Tensor Combinations::labels(const std::vector<Sample>& samples) const {
  std::vector<int64_t> all;
  for (const Sample& sample : samples) {
    const std::vector<int64_t> labels = labels_of(sample);
    all.insert(all.end(), labels.begin(), labels.end());
  }
  return torch::tensor(all, at::kLong).view({std::ssize(samples), std::ssize(parts_)});
}

at::Tensor Combinations::named_in(const std::vector<std::string>& texts) const {
  std::vector<int64_t> all;
  for (const std::string& text : texts) {
    for (const auto& values : values_) all.push_back(longest_in(values, text));
  }
  return torch::tensor(all, at::kLong).view({std::ssize(texts), std::ssize(parts_)});
}

CombinationShare share_by_combination(const at::Tensor& right, const at::Tensor& labels) {
  std::map<std::vector<int64_t>, std::vector<double>> by_combination;
  for (int64_t i = 0; i < right.size(0); ++i) {
    by_combination[row_of(labels, i)].push_back(right[i].item<bool>() ? 1 : 0);
  }
  std::vector<double> shares;
  for (const auto& [combination, hits] : by_combination) {
    shares.push_back(std::accumulate(hits.begin(), hits.end(), 0.0) /
                     static_cast<double>(hits.size()));
  }
  const auto n = static_cast<double>(shares.size());
  return {
      .value = shares.empty() ? kUnknown : std::accumulate(shares.begin(), shares.end(), 0.0) / n,
      .standard_error = standard_error_of_mean(shares),
      .combinations = std::ssize(shares)};
}

}  // namespace espalier
