#pragma once

#include <string>

#include "data/images/image.h"

namespace espalier {

// ConfigError when it cannot be made.
void make_drawing_folder(const std::string& folder);

// Writes a drawing as FOLDER/TEXT-IN-SHORT.png, each pixel `zoom` times enlarged, or under the next
// free number: what is there already stays. Returns the path.
std::string write_drawing(const std::string& folder, const std::string& text,
                          const std::string& suffix, const Image& image, int zoom);

}  // namespace espalier
