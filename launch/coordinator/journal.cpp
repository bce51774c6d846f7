#include "launch/coordinator/journal.h"

#include <fcntl.h>
#include <unistd.h>

#include <spdlog/spdlog.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <thread>

#include <boost/crc.hpp>

#include "launch/protocol/host_identity.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/record/json_text.h"

namespace espalier {
namespace {

constexpr size_t kPrefixBytes = 8;
constexpr uint32_t kMaxRecordBytes = 1 << 16;

void put_u32(std::string& out, uint32_t value) {
  for (int shift = 0; shift < 32; shift += 8)
    out.push_back(static_cast<char>(value >> shift & 255));
}

uint32_t get_u32(std::string_view bytes, size_t offset) {
  uint32_t value = 0;
  for (size_t i = 4; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[offset + i]);
  return value;
}

uint32_t crc32(std::string_view bytes) {
  boost::crc_32_type crc;
  crc.process_bytes(bytes.data(), bytes.size());
  return crc.checksum();
}

[[noreturn]] void fail(const std::string& path) {
  throw std::runtime_error("journal " + path + ": " + std::strerror(errno));
}

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

std::string encode_record(const nlohmann::json& record) {
  const std::string text = json_text(record);
  std::string out;
  put_u32(out, static_cast<uint32_t>(text.size()));
  put_u32(out, crc32(text));
  return out + text;
}

std::vector<nlohmann::json> decode_records(std::string_view bytes, size_t* good_bytes) {
  std::vector<nlohmann::json> records;
  size_t offset = 0;
  while (bytes.size() - offset >= kPrefixBytes) {
    const uint32_t length = get_u32(bytes, offset);
    if (length > kMaxRecordBytes || bytes.size() - offset - kPrefixBytes < length) break;
    const std::string_view text = bytes.substr(offset + kPrefixBytes, length);
    if (crc32(text) != get_u32(bytes, offset + 4)) break;
    auto record = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!record.is_object()) break;
    records.push_back(std::move(record));
    offset += kPrefixBytes + length;
  }
  *good_bytes = offset;
  return records;
}

JournalState replay(const std::vector<nlohmann::json>& records) {
  JournalState state;
  for (const auto& record : records) {
    const std::string type = record.value("type", std::string());
    if (type == "launching") {
      state.generation = record.value("generation", 0u);
      state.launcher_pid = 0;
    } else if (type == "launched") {
      state.generation = record.value("generation", 0u);
      state.launcher_pid = record.value("pid", 0);
      state.launcher_start = record.value("start_time", uint64_t{0});
      state.machine = record.value("machine", std::string());
      state.ranks = record.value("ranks", 0);
      state.job = record.value("job", std::string());
    } else if (type == "launcher_ended") {
      state.launcher_pid = 0;
    } else if (type == "committed") {
      state.last_commit = record.value("step", int64_t{-1});
      state.starts_without_commit = -1;  // the start that is under way ends with one
    } else if (type == "finished") {
      state.wants_requeue = record.value("wants_requeue", false);
      ++state.starts_without_commit;
    }
    ++state.records;
  }
  return state;
}

JournalState read_journal(const std::string& path) {
  size_t good_bytes = 0;
  return replay(decode_records(bytes_of(path), &good_bytes));
}

Journal::Journal(std::string path) : path_(std::move(path)) {
  fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd_ < 0) fail(path_);
  const std::string bytes = bytes_of(path_);
  size_t good_bytes = 0;
  state_ = replay(decode_records(bytes, &good_bytes));
  if (good_bytes < bytes.size() && ::ftruncate(fd_, static_cast<off_t>(good_bytes)) != 0) {
    fail(path_);
  }
}

Journal::~Journal() { ::close(fd_); }

void Journal::append(const nlohmann::json& record) {
  const std::string bytes = encode_record(record);
  if (::write(fd_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()) ||
      ::fdatasync(fd_) != 0) {
    fail(path_);
  }
}

void Journal::launching(uint32_t generation) {
  append({{"type", "launching"}, {"generation", generation}});
}

void Journal::launched(uint32_t generation, int pid, uint64_t start_time, int ranks,
                       const std::string& job) {
  append({{"type", "launched"},
          {"generation", generation},
          {"pid", pid},
          {"start_time", start_time},
          {"machine", this_host().machine},
          {"ranks", ranks},
          {"job", job}});
}

void Journal::launcher_ended(uint32_t generation, int exit_status) {
  append({{"type", "launcher_ended"}, {"generation", generation}, {"status", exit_status}});
}

void Journal::committed(uint32_t generation, int64_t step) {
  append({{"type", "committed"}, {"generation", generation}, {"step", step}});
}

void Journal::finished(int exit_code, const std::string& why, bool wants_requeue) {
  append({{"type", "finished"},
          {"exit_code", exit_code},
          {"why", why},
          {"wants_requeue", wants_requeue}});
}

// Note [Who may commit without a coordinator]: a launch is in the journal, on disk, before it
// begins.
// - No journal: yes. The coordinator makes it before the first launch and never removes it, so this
//   folder is the rank's own disk, where no other generation leaves anything.
// - A torn end: read once more, since it may be a launch that is just being written down; what is
//   torn for good was cut off by the end of its coordinator, and nothing followed from it.
// - It cannot be read, or is damaged from the start: no. The folder that both share fails on this
//   rank's side; others may see it well.
bool is_newest_generation(const std::string& journal_path, uint32_t generation) {
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (attempt > 0) std::this_thread::sleep_for(std::chrono::seconds(1));
    std::string bytes;
    try {
      std::error_code error;
      const auto status = std::filesystem::symlink_status(journal_path, error);
      if (status.type() == std::filesystem::file_type::not_found) return true;
      bytes = read_text_file(journal_path);
    } catch (const StorageError& error) {
      spdlog::warn("the coordinator's journal: {}", error.what());
      return false;
    }
    size_t good_bytes = 0;
    const JournalState state = replay(decode_records(bytes, &good_bytes));
    if (state.generation > generation) return false;
    if (good_bytes == bytes.size() && !bytes.empty()) return true;
    if (attempt > 0) return state.records > 0;
  }
  return false;
}

}  // namespace espalier
