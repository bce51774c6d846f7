#include "launch/commands/drawing_files.h"

#include <cctype>
#include <filesystem>

#include "data/images/contact_sheet.h"
#include "data/images/image_codec.h"
#include "trainer/errors.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

// "red apple!" -> "red-apple"
std::string file_stem(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c))) {
      out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    } else if (!out.empty() && out.back() != '-') {
      out += '-';
    }
  }
  while (!out.empty() && out.back() == '-') out.pop_back();
  return out.empty() ? "drawing" : out.substr(0, 80);
}

// "red-apple.png" in the folder, or where that is taken "red-apple-0002.png" and so on.
std::string free_path(const std::string& folder, const std::string& stem) {
  std::string path = folder + "/" + stem + ".png";
  for (int number = 2; fs::exists(path); ++number) {
    std::string digits = std::to_string(number);
    digits.insert(0, digits.size() < 4 ? 4 - digits.size() : 0, '0');
    path = folder + "/" + stem + "-" + digits + ".png";
  }
  return path;
}

}  // namespace

void make_drawing_folder(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw ConfigError(folder + " cannot be written: " + error.message());
}

std::string write_drawing(const std::string& folder, const std::string& text,
                          const std::string& suffix, const Image& image, int zoom) {
  std::string path = free_path(folder, file_stem(text) + suffix);
  write_png(path, contact_sheet({{image}}, {zoom, 0}));
  return path;
}

}  // namespace espalier
