#include "data/inspect.h"

#include <algorithm>
#include <limits>
#include <set>
#include <sstream>
#include <utility>

#include <nlohmann/json.hpp>

#include "data/text/utf8.h"

namespace espalier {
namespace {

constexpr int64_t kMostLookedAt = 20000;

class LengthCounter {
 public:
  void add(int64_t length) {
    min_ = std::min(min_, length);
    max_ = std::max(max_, length);
    sum_ += length;
    ++count_;
  }
  LengthStatistics result() const {
    if (count_ == 0) return {};
    return {min_, static_cast<double>(sum_) / static_cast<double>(count_), max_};
  }

 private:
  int64_t min_ = std::numeric_limits<int64_t>::max();
  int64_t max_ = 0;
  int64_t sum_ = 0;
  int64_t count_ = 0;
};

nlohmann::json to_json(const LengthStatistics& lengths) {
  return {{"min", lengths.min}, {"mean", lengths.mean}, {"max", lengths.max}};
}

nlohmann::json most_frequent(const std::map<std::string, int64_t>& counts, size_t limit) {
  std::vector<std::pair<std::string, int64_t>> sorted(counts.begin(), counts.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  nlohmann::json list = nlohmann::json::array();
  for (size_t i = 0; i < std::min(limit, sorted.size()); ++i)
    list.push_back({{"keyword", sorted[i].first}, {"count", sorted[i].second}});
  return list;
}

}  // namespace

DataStatistics inspect(const Dataset& dataset) {
  DataStatistics statistics;
  statistics.shards = dataset.paths();
  statistics.shard_bytes = dataset.size_bytes();
  statistics.samples = dataset.size();
  statistics.bad_samples = dataset.bad().count;
  statistics.bad_messages = dataset.bad().messages;
  statistics.fingerprint = dataset.fingerprint();

  LengthCounter characters;
  LengthCounter words;
  LengthCounter keywords;
  std::set<std::string> distinct_captions;
  std::set<std::string> distinct_words;
  for (const auto& [field, count] : dataset.fields()) statistics.fields[field] = count;
  statistics.notes = dataset.notes();
  statistics.looked_at = std::min(kMostLookedAt, dataset.size());
  for (int64_t i = 0; i < statistics.looked_at; ++i) {
    const Sample sample = dataset.get(i * dataset.size() / statistics.looked_at);
    const Image& image = sample.image;
    ++statistics.image_sizes[std::to_string(image.width) + "x" + std::to_string(image.height)];
    ++statistics.groups[sample.text("group")];
    ++statistics.subgroups[sample.text("subgroup")];
    for (const std::string& keyword : sample.texts("keywords")) ++statistics.keywords[keyword];
    keywords.add(std::ssize(sample.texts("keywords")));
    characters.add(count_code_points(sample.caption()));
    distinct_captions.insert(sample.caption());
    std::istringstream text(sample.caption());
    int64_t count = 0;
    for (std::string word; text >> word; ++count) distinct_words.insert(word);
    words.add(count);
  }
  statistics.caption_characters = characters.result();
  statistics.caption_words = words.result();
  statistics.keywords_per_sample = keywords.result();
  statistics.distinct_captions = std::ssize(distinct_captions);
  statistics.distinct_words = std::ssize(distinct_words);
  return statistics;
}

nlohmann::json to_json(const DataStatistics& statistics) {
  return {
      {"shards", statistics.shards},
      {"shard_bytes", statistics.shard_bytes},
      {"samples", statistics.samples},
      {"looked_at", statistics.looked_at},
      {"fields", statistics.fields},
      {"notes", statistics.notes},
      {"bad_samples", {{"count", statistics.bad_samples}, {"messages", statistics.bad_messages}}},
      {"fingerprint", statistics.fingerprint},
      {"image_sizes", statistics.image_sizes},
      {"captions",
       {{"characters", to_json(statistics.caption_characters)},
        {"words", to_json(statistics.caption_words)},
        {"distinct", statistics.distinct_captions},
        {"distinct_words", statistics.distinct_words}}},
      {"groups", statistics.groups},
      {"subgroups", statistics.subgroups},
      {"keywords",
       {{"per_sample", to_json(statistics.keywords_per_sample)},
        {"distinct", statistics.keywords.size()},
        {"most_frequent", most_frequent(statistics.keywords, 20)}}}};
}

}  // namespace espalier
