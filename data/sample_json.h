#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "data/sample.h"

namespace espalier {

// What a JSON object says of pictures, which have the names `pictures`. Strings, numbers and truth
// values become texts, lists of them several; null and objects are left out. "messages" is a
// conversation: a list of objects with a role ("role", or "from" with "human" and "gpt") and what
// is said ("content" or "value"): a text in which "<image>" marks a picture, or a list of parts of
// type "text", "image" and "image_url". The first mark is the first picture and so on, but for
// parts that call one by its name. Where none is marked, all come first.
// DataError that begins with `name` for messages that are none, and where marks and pictures do not
// fit.
Sample sample_of(const nlohmann::json& object, const std::string& name,
                 const std::vector<std::string>& pictures);
// Names of pictures in the parts of messages, each once, in the order in which they come.
std::vector<std::string> pictures_named(const nlohmann::json& object);
// As sample_of() reads them, whatever form they came in.
nlohmann::json messages_json(const std::vector<Message>& messages);

// An object from its bytes; DataError that begins with `name`.
nlohmann::json parse_object(std::span<const uint8_t> bytes, const std::string& name);
// The caption that a text file holds: without the blanks around it.
std::string caption_of(const std::string& text);

// Whether there is a text; for "messages" one that an assistant says, and for "messages.picture" a
// picture that an assistant shows.
bool says_something(const Sample& sample, const std::string& field);
// DataError that begins with `name` for the first field that is missing or says nothing.
void require_fields(const Sample& sample, const std::vector<std::string>& fields,
                    const std::string& name);

}  // namespace espalier
