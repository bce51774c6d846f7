#include "comm/collective_watch.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include <ATen/core/Tensor.h>

namespace espalier {
namespace {

// Group names come from our own code; quotes and backslashes are all that could hurt.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

}  // namespace

CollectiveCall::CollectiveCall(const char* operation, const at::Tensor& tensor, const char* with)
    : name(operation), argument(with) {
  type = tensor.scalar_type();
  dimensions = static_cast<int>(tensor.dim());
  bytes = static_cast<int64_t>(tensor.nbytes());
  const auto known = std::min<int64_t>(tensor.dim(), static_cast<int64_t>(sizes.size()));
  for (int64_t i = 0; i < known; ++i) sizes[i] = tensor.size(i);
}

std::string CollectiveCall::describe() const {
  if (type == c10::ScalarType::Undefined) return name;
  std::ostringstream text;
  text << name << '(' << c10::toString(type) << '[';
  for (int i = 0; i < std::min<int>(dimensions, static_cast<int>(sizes.size())); ++i) {
    text << (i == 0 ? "" : ", ") << sizes[i];
  }
  text << (dimensions > static_cast<int>(sizes.size()) ? ", ...]" : "]");
  if (argument != nullptr) text << ", " << argument;
  if (root >= 0) text << ", root " << root;
  text << ')';
  return text.str();
}

CollectiveWatch::CollectiveWatch(size_t capacity) : entries_(std::max<size_t>(capacity, 1)) {}

uint64_t CollectiveWatch::on_issue(const std::string& group, const CollectiveCall& call) {
  const auto now = Clock::now();
  const std::lock_guard lock(mutex_);
  const uint64_t number = ++issued_;
  Entry& entry = entries_[number % entries_.size()];
  entry.number = number;
  entry.group = {};
  group.copy(entry.group.data(), entry.group.size() - 1);
  entry.call = call;
  entry.issued = now;
  entry.started = entry.ended = {};
  // An operation that was overwritten before it ended is not waited for any more.
  if (issued_ - oldest_ >= entries_.size()) ++oldest_;
  return number;
}

CollectiveWatch::Entry* CollectiveWatch::find(uint64_t number) {
  Entry& entry = entries_[number % entries_.size()];
  return entry.number == number ? &entry : nullptr;
}

void CollectiveWatch::on_start(uint64_t number) {
  const auto now = Clock::now();
  const std::lock_guard lock(mutex_);
  if (Entry* entry = find(number)) entry->started = now;
}

void CollectiveWatch::on_end(uint64_t number) {
  const auto now = Clock::now();
  const std::lock_guard lock(mutex_);
  Entry* entry = find(number);
  if (entry == nullptr) return;
  entry->ended = now;
  completed_ = std::max(completed_, number);
  while (oldest_ <= issued_ && entry_of(oldest_).ended != Clock::time_point()) ++oldest_;
}

CollectiveWatch::Latest CollectiveWatch::latest() const {
  Latest latest;
  CollectiveCall call;
  {
    const std::lock_guard lock(mutex_);
    latest.issued = issued_;
    latest.completed = completed_;
    if (oldest_ > issued_) return latest;
    call = entry_of(oldest_).call;
    latest.waited_s =
        std::chrono::duration<double>(Clock::now() - entry_of(oldest_).issued).count();
  }
  latest.operation = call.describe();
  return latest;
}

double CollectiveWatch::seconds(Clock::time_point time) const {
  return std::chrono::duration<double>(time - begin_).count();
}

std::string CollectiveWatch::line(const Entry& entry) const {
  std::ostringstream text;
  text.precision(6);
  text << std::fixed;
  const auto time = [&](const char* name, Clock::time_point when) {
    text << ", \"" << name << "\": ";
    if (when == Clock::time_point()) {
      text << "null";
    } else {
      text << seconds(when);
    }
  };
  const bool has_ended = entry.ended != Clock::time_point();
  const bool has_started = entry.started != Clock::time_point();
  text << "{\"sequence\": " << entry.number << ", \"group\": " << quoted(entry.group.data())
       << ", \"operation\": " << quoted(entry.call.describe())
       << ", \"bytes\": " << entry.call.bytes << ", \"state\": \""
       << (has_ended     ? "done"
           : has_started ? "started"
                         : "issued")
       << '"';
  time("issued_s", entry.issued);
  time("started_s", entry.started);
  time("done_s", entry.ended);
  text << '}';
  return text.str();
}

void CollectiveWatch::dump(const std::string& path, int rank) const {
  const Latest now = latest();
  std::vector<Entry> entries;  // a copy: nobody waits for the file
  {
    const std::lock_guard lock(mutex_);
    entries = entries_;
  }
  std::erase_if(entries, [](const Entry& entry) { return entry.number == 0; });
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.number < b.number; });
  std::ofstream file(path, std::ios::trunc);
  file.precision(6);
  file << std::fixed << "{\"rank\": " << rank << ", \"issued\": " << now.issued
       << ", \"completed\": " << now.completed << ", \"waits_for\": " << quoted(now.operation)
       << ", \"waited_s\": " << now.waited_s << ", \"now_s\": " << seconds(Clock::now())
       << ", \"zero_is_unix_s\": "
       << std::chrono::duration<double>(begin_of_day_.time_since_epoch()).count() << "}\n";
  for (const Entry& entry : entries) file << line(entry) << '\n';
  file.flush();
  if (!file) throw std::runtime_error(path + ": " + std::strerror(errno));
}

}  // namespace espalier
