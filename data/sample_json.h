#pragma once

#include <cstdint>
#include <span>
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

// An object from its bytes; DataError that begins with `name`.
nlohmann::json parse_object(std::span<const uint8_t> bytes, const std::string& name);
// The caption that a text file holds: without the blanks around it.
std::string caption_of(const std::string& text);

// Whether there is a text, and for "messages" something that an assistant says.
bool says_something(const Sample& sample, const std::string& field);
// DataError that begins with `name` for the first field that is missing or says nothing.
void require_fields(const Sample& sample, const std::vector<std::string>& fields,
                    const std::string& name);

}  // namespace espalier
