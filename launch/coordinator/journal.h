#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace espalier {

// What a coordinator has to know about the ones before it on the same run directory.
struct JournalState {
  uint32_t generation = 0;      // the last one launched
  int launcher_pid = 0;         // 0: none is running as far as the journal knows
  uint64_t launcher_start = 0;  // the process's start time, so that a recycled pid is recognised
  std::string machine;          // where that pid means something
  int ranks = 0;                // of the launch; 0: not known
  std::string job;              // fingerprint of what was launched
  int64_t last_commit = -1;
  bool wants_requeue = false;         // the last one ended so
  int64_t starts_without_commit = 0;  // that ended, in a row
  int records = 0;
};

// Append-only file of records: length u32, CRC-32 u32 (both little-endian), JSON text. Each append
// is on disk when it returns. Opening replays the records and cuts off a torn or damaged tail.
class Journal {
 public:
  explicit Journal(std::string path);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  const JournalState& state() const { return state_; }
  // Before the launcher is started, so that a number is never used twice; then with its process.
  void launching(uint32_t generation);
  void launched(uint32_t generation, int pid, uint64_t start_time, int ranks,
                const std::string& job);
  void launcher_ended(uint32_t generation, int exit_status);
  void committed(uint32_t generation, int64_t step);
  void finished(int exit_code, const std::string& why, bool wants_requeue);

 private:
  void append(const nlohmann::json& record);

  std::string path_;
  int fd_ = -1;
  JournalState state_;
};

// For a rank whose coordinator is gone for good: whether, as far as the journal tells, no newer
// generation than its own was launched, so that it may commit alone. Read only.
bool is_newest_generation(const std::string& journal_path, uint32_t generation);

// Pure halves of the above.
std::string encode_record(const nlohmann::json& record);
// Returns the good records; `good_bytes` is where the first bad one starts.
std::vector<nlohmann::json> decode_records(std::string_view bytes, size_t* good_bytes);
JournalState replay(const std::vector<nlohmann::json>& records);
// Of a journal that nobody writes.
JournalState read_journal(const std::string& path);

}  // namespace espalier
