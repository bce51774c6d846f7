// Stands in for arrow_tables.cpp in a build without Arrow.
#include "data/errors.h"
#include "data/sources/table_rows.h"

namespace espalier {
namespace {

[[noreturn]] void refuse(const std::string& path) {
  throw DataError(
      path +
      ": this build has no Arrow, which reads CSV and Parquet; run launch/bootstrap and "
      "build again, or make it JSONL");
}

}  // namespace

void read_csv(const std::string& path, char /*separator*/, const OnRow& /*on_row*/) {
  refuse(path);
}
void read_parquet(const std::string& path, const OnRow& /*on_row*/) { refuse(path); }

}  // namespace espalier
