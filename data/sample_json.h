#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "data/sample.h"

namespace espalier {

// What a JSON object says of a picture. Strings, numbers and truth values become texts, lists of
// them several; null and objects are left out. "messages" is a conversation: a list of objects with
// a role ("role", or "from" with "human" and "gpt") and a text ("content" or "value"), which may be
// a list of parts, of which those of type "text" are read; the mark "<image>" is taken out.
// DataError that begins with `name` for messages that are none.
Sample sample_of(const nlohmann::json& object, const std::string& name);

// DataError that begins with `name` for the first field that is missing or says nothing.
// "messages" stands for a conversation with something that an assistant says.
void require_fields(const Sample& sample, const std::vector<std::string>& fields,
                    const std::string& name);

}  // namespace espalier
