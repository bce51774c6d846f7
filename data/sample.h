#pragma once

#include <string>
#include <vector>

#include "data/images/image.h"

namespace espalier {

// One picture and what is written about it. In a shard: KEY.png or KEY.jpg, and KEY.json with
// "caption" (required) and "keywords", "group", "subgroup", "codepoints" (empty where absent).
struct Sample {
  std::string key;
  std::string caption;
  std::string group;
  std::string subgroup;
  std::string codepoints;
  std::vector<std::string> keywords;
  Image image;  // empty from ShardDataset::describe()
};

}  // namespace espalier
