package backup

import "github.com/peerd/peerd/store"

// Limits. What goes beyond them is refused as damage.
const (
	blockSize  = 1 << 20 // bytes of keys and values after which a block is full
	maxRecords = 1 << 16 // records in a block, so that small ones do not make it slow to take apart
	// maxBlock is how many bytes a block may have, not compressed: one record of the largest size may come
	// when it is nearly full. Eleven bytes of msgpack for each record, at most.
	maxBlock = blockSize + store.MaxKey + store.MaxValue + 11*maxRecords
	// maxFrame is how many bytes a frame may say it has: zstd adds little to what it cannot compress.
	maxFrame = maxBlock + maxBlock>>8 + 1<<10
	maxName  = 256 // bytes of a peer's name; a longer one is cut
)
