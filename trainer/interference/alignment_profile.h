#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "trainer/interference/interference_record.h"
#include "trainer/models/y_decoder.h"
#include "trainer/named/named_things.h"
#include "trainer/stage.h"

namespace espalier {

// How far a Y-shaped decoder treats an image and its caption alike, by depth and branch: of each of
// N held-out samples the mean hidden state over the positions of the image, read alone, and over
// those of the caption, read alone through the same branch; then their mutual nearest neighbours
// (evaluation/mutual_neighbours.h), beside what shuffled pairs give.
class AlignmentProfile {
 public:
  // Null where there is nothing to measure: measures of interference are off, the model is no
  // Y-shaped decoder, or no objective of the stage has captions to validate on.
  static std::unique_ptr<AlignmentProfile> make(NamedThings& things, const Stage& stage);

  // With the weights as they are. Collective; the same on every rank, but for step and stage, which
  // the caller knows. No branches where there are fewer than two samples.
  AlignmentRecord measure();

 private:
  AlignmentProfile(NamedThings& things, const Stage& stage, YDecoder& model, std::string data);

  // (N, 2, depths, width): of images, of captions.
  at::Tensor features(int64_t branch, const std::vector<int64_t>& samples);
  // (samples, depths, width)
  at::Tensor image_states(const ImageSet& images, int64_t branch) const;
  at::Tensor caption_states(const ImageSet& images, int64_t branch) const;

  NamedThings& things_;
  const Stage& stage_;
  YDecoder& model_;
  std::string data_;
};

}  // namespace espalier
