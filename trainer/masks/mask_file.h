#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "models/attention/mask_description.h"

namespace espalier {

// A mask in TOML: `[settings]` declares numbers and switches with their defaults, each `[[group]]`
// a group of tokens (docs/masks.md). A file is a family of masks: `--set` and models choose one.
struct MaskFile {
  std::string path;
  std::map<std::string, int64_t> settings;  // switches are 0 and 1; as chosen
  MaskDescription description;
};

// `sets` are "KEY=VALUE". Throws ConfigError with file and line for whatever is wrong: TOML, an
// unknown key or setting, a value of another type, groups that inherit from one another in a
// circle, and all that lay_out() refuses.
MaskFile read_mask_file(const std::string& path, const std::vector<std::string>& sets = {});

// The description as rows and table; ConfigError with file and line.
MaskLayout lay_out(const MaskFile& file);

}  // namespace espalier
