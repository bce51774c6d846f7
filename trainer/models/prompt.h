#pragma once

#include <cstdint>
#include <vector>

#include "data/sample.h"
#include "trainer/models/y_decoder.h"

namespace espalier {

// What a sequence holds before what is learned, or asked for: token ids with kPicture where a
// picture stands, and the numbers of these pictures among the sample's.
struct Prompt {
  std::vector<int64_t> ids;
  std::vector<int64_t> pictures;
};

// A part of a message.
struct MessagePlace {
  size_t message = 0, part = 0;
};
// The parts that an assistant says, or the pictures that it shows.
std::vector<MessagePlace> assistant_parts(const std::vector<Message>& messages, bool is_picture);

// A conversation up to one of an assistant's parts. What others say comes after <question>, what
// the assistant says after <answer>; pictures that others show before they say something come
// before <question>; pictures that the assistant shows come after <draw>, that which is to be
// drawn too. Of a long conversation the end: as many tokens as a text may have, and pictures as a
// sequence, less the one that is drawn.
Prompt prompt_before(const YDecoder& model, const std::vector<Message>& messages,
                     MessagePlace place);
// The same before what the assistant says, or draws, next.
Prompt prompt_after(const YDecoder& model, const std::vector<Message>& messages, bool is_drawn);

}  // namespace espalier
