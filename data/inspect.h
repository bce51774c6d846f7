#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "data/sources/dataset.h"

namespace espalier {

struct LengthStatistics {
  int64_t min = 0;
  double mean = 0;
  int64_t max = 0;
};

// What `espalier data inspect` prints about a set of sources.
struct DataStatistics {
  std::vector<std::string> shards;
  int64_t shard_bytes = 0;
  int64_t samples = 0;
  int64_t looked_at = 0;                  // of these, evenly spread: what the rest tells
  std::map<std::string, int64_t> fields;  // samples that say something under each name
  std::vector<std::string> notes;         // files that are not read
  int64_t bad_samples = 0;
  std::vector<std::string> bad_messages;
  std::string fingerprint;
  std::map<std::string, int64_t> image_sizes;  // "32x32": samples
  LengthStatistics caption_characters;         // code points
  LengthStatistics caption_words;
  int64_t distinct_captions = 0;
  int64_t distinct_words = 0;  // in captions
  std::map<std::string, int64_t> groups;
  std::map<std::string, int64_t> subgroups;
  LengthStatistics keywords_per_sample;
  std::map<std::string, int64_t> keywords;  // occurrences
};

// Decodes every sample once, or of a large set 20,000 of them.
DataStatistics inspect(const Dataset& dataset);

// Everything above; of `keywords` the number of distinct ones and the most frequent 20.
nlohmann::json to_json(const DataStatistics& statistics);

}  // namespace espalier
