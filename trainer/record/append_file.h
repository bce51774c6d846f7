#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace espalier {

// A file that grows by whole records: one for which the disk has no room is taken back, and the
// next may succeed. Other processes may append lines to the same file. Not thread-safe.
class AppendFile {
 public:
  explicit AppendFile(std::string path);  // opened, and made, by the first record
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  // False: nothing was written, and error() says why.
  bool append(const std::string& record);
  // The same for a line (without its end), which starts on a line of its own whatever a process
  // that was killed has left there.
  bool append_line(const std::string& line);

  const std::string& path() const { return path_; }
  const std::string& error() const { return error_; }
  // Records that could not be written since the last time this was asked.
  int64_t take_left_out() { return std::exchange(left_out_, 0); }
  int64_t left_out() const { return left_out_; }

 private:
  bool open();
  bool fail(int error);
  bool ends_inside_a_line() const;
  void take_back(size_t written);

  std::string path_;
  std::string error_;
  int64_t left_out_ = 0;
  int fd_ = -1;
};

}  // namespace espalier
