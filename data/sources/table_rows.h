#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include <nlohmann/json.hpp>

namespace espalier {

// One row of a table.
struct TableRow {
  int64_t number = 0;         // from 1; the line of a text file
  nlohmann::json fields;      // an object: the columns that can be written as JSON
  std::string picture_bytes;  // where the row holds its picture: a column of bytes, or a struct
                              // with "bytes", as Hugging Face's data sets have it
};
using OnRow = std::function<void(TableRow row)>;

// CSV with a line of names, any quoting that Arrow reads; `separator` is , or a tab. Parquet:
// texts, numbers, lists and structs of them. One batch of rows is in memory at a time. DataError
// with Arrow's reason. A build without Arrow says so.
void read_csv(const std::string& path, char separator, const OnRow& on_row);
void read_parquet(const std::string& path, const OnRow& on_row);

}  // namespace espalier
