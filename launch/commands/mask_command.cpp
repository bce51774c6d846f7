#include <torch/torch.h>

#include <cstdio>

#include <nlohmann/json.hpp>

#include "data/images/image_codec.h"
#include "launch/commands/commands.h"
#include "launch/protocol/failure_class.h"
#include "models/weights/safetensors.h"
#include "trainer/errors.h"
#include "trainer/masks/mask_file.h"
#include "trainer/masks/mask_picture.h"

namespace espalier {
namespace {

// A matrix of more bytes than this is not what anybody wants by accident.
constexpr int64_t kMostTokens = 32768;

void write_matrix(const std::string& path, const MaskFile& file, const AttentionMask& mask) {
  if (mask.rows() > kMostTokens) {
    throw ConfigError(file.path + ": the matrix of " + std::to_string(mask.rows()) +
                      " tokens is left out; " + std::to_string(kMostTokens) + " at most");
  }
  write_safetensors(path, {{"mask", mask.dense().to(at::kByte)}});
}

}  // namespace

int run_mask(const MaskArguments& arguments) {
  const bool is_picture = arguments.out.ends_with(".png");
  if (!arguments.out.empty() && !is_picture && !arguments.out.ends_with(".safetensors")) {
    throw ConfigError("--out " + arguments.out +
                      ": the name ends in .png for a picture, or in .safetensors for the matrix");
  }
  const MaskFile file = read_mask_file(arguments.spec, arguments.sets);
  const MaskLayout layout = lay_out(file);
  if (is_picture) {
    write_png(arguments.out, mask_picture(file, layout));
  } else if (!arguments.out.empty()) {
    write_matrix(arguments.out, file, layout.mask);
  }
  const auto tokens = static_cast<double>(layout.mask.rows());
  nlohmann::ordered_json line;
  line["tokens"] = layout.mask.rows();
  line["visible"] = layout.mask.visible();
  line["density"] = static_cast<double>(layout.mask.visible()) / (tokens * tokens);
  line["blocks"] = layout.mask.blocks();
  std::printf("%s\n", line.dump().c_str());
  return kExitDone;
}

}  // namespace espalier
