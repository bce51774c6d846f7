#pragma once

#include <cstdint>
#include <string>

namespace espalier {

// Where a parameter stands in a model, read from its name: in a layer of a stack of layers, or
// beside them.
struct ParameterPlace {
  std::string stack;       // "trunk"; beside the stacks the name itself: "text_embedding"
  int64_t layer = -1;      // from 0; -1 = not in a stack
  std::string projection;  // "query_key_value"; empty beside the stacks

  bool operator==(const ParameterPlace&) const = default;
};

// Of a name in a checkpoint ("model/y/trunk.3.query_key_value.weight") or in a model. The first
// part that is a number is the layer. A weight and its bias have the same place.
ParameterPlace place_of(const std::string& name);

std::string text_of(const ParameterPlace& place);  // "trunk.3.query_key_value"

}  // namespace espalier
