#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace espalier {

// Writes the event files that TensorBoard reads: TFRecord frames (length, masked CRC-32C) around
// hand-encoded Event messages. Not thread-safe.
class TensorboardWriter {
 public:
  // Creates one new file in `directory`, which exists. `start_step` tells TensorBoard to forget
  // what earlier files hold from that step on.
  TensorboardWriter(const std::string& directory, double wall_time_s, int64_t start_step);

  void add_scalars(const std::vector<std::pair<std::string, double>>& values, int64_t step,
                   double wall_time_s);
  void add_png(const std::string& tag, const std::string& png, int64_t step, double wall_time_s);
  void flush() { file_.flush(); }

 private:
  std::ofstream file_;
};

uint32_t crc32c(const std::string& bytes);
std::string tfrecord(const std::string& payload);
std::string scalars_event(const std::vector<std::pair<std::string, double>>& values, int64_t step,
                          double wall_time_s);
std::string png_event(const std::string& tag, const std::string& png, int64_t step,
                      double wall_time_s);

}  // namespace espalier
