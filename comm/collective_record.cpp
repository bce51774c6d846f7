#include "comm/collective_record.h"

#include <filesystem>
#include <stdexcept>

namespace espalier {

CollectiveRecord::CollectiveRecord(const CollectiveRecording& recording, int rank,
                                   const CollectiveCall& call)
    : watch_(recording.watch),
      dump_directory_(recording.dump_directory),
      rank_(rank),
      call_(call),
      number_(watch_->on_issue(recording.group, call)) {}

Timeout CollectiveRecord::timeout(double seconds, const std::string& detail) const {
  std::string text =
      detail + "; it is operation " + std::to_string(number_) + " of rank " + std::to_string(rank_);
  if (!dump_directory_.empty()) {
    const std::string path =
        dump_directory_ + "/collectives-rank-" + std::to_string(rank_) + ".jsonl";
    try {
      std::filesystem::create_directories(dump_directory_);
      watch_->dump(path, rank_);
      text += ", whose latest ones are in " + path;
    } catch (const std::exception& error) {
      text += ", whose latest ones could not be written: " + std::string(error.what());
    }
  }
  return Timeout(describe(), seconds, text);
}

}  // namespace espalier
