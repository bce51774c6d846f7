#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "trainer/record/append_file.h"

namespace espalier {

// Writes the event files that TensorBoard reads: TFRecord frames (length, masked CRC-32C) around
// hand-encoded Event messages. A frame that cannot be written whole is left out: readers stop at a
// torn one. Not thread-safe.
class TensorboardWriter {
 public:
  // One new file in `directory`, which exists. `start_step` tells TensorBoard to forget what
  // earlier files hold from that step on.
  TensorboardWriter(const std::string& directory, double wall_time_s, int64_t start_step);

  // False: left out, and the file says why.
  bool add_scalars(const std::vector<std::pair<std::string, double>>& values, int64_t step,
                   double wall_time_s);
  bool add_png(const std::string& tag, const std::string& png, int64_t step, double wall_time_s);
  AppendFile& file() { return file_; }

 private:
  bool add(const std::string& event);

  AppendFile file_;
  std::string head_;  // what the file starts with, until it is written
};

uint32_t crc32c(const std::string& bytes);
std::string tfrecord(const std::string& payload);
std::string scalars_event(const std::vector<std::pair<std::string, double>>& values, int64_t step,
                          double wall_time_s);
std::string png_event(const std::string& tag, const std::string& png, int64_t step,
                      double wall_time_s);

}  // namespace espalier
