#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace espalier {

struct BadSamples {
  static constexpr size_t kMaxMessages = 100;

  int64_t count = 0;
  std::vector<std::string> messages;  // the first 100

  void add(const std::string& message) {
    ++count;
    if (messages.size() < kMaxMessages) messages.push_back(message);
  }
};

}  // namespace espalier
