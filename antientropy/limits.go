package antientropy

import "github.com/peerd/peerd/internal/dotted"

// Limits of messages. Both sides must agree on the first three: they are part of the protocol.
const (
	// MaxMessage is the size in bytes of an encoded message. Decoders refuse more unread. The
	// largest message has a cell's entry: MaxAddress and MaxPayload together are 16.3 MiB. Each side
	// holds one message at a time, and few sides repair at once, so entries are not split.
	MaxMessage = dotted.MaxPayload + 4<<20
	// MaxRequest is the same of a request, the largest of which has a context.
	MaxRequest = 4 << 20
	// MaxNodes is how many nodes one request opens. Its response is then 288 KiB.
	MaxNodes = 1024
	// MaxLeaves is how many leaves one request asks for. What does not fit into the response is
	// asked for again.
	MaxLeaves = 1024

	// chunkSize is where a response with cells ends, in bytes. Its first entry is sent at any
	// size.
	chunkSize = 512 << 10

	// maxContext is how many replicas fit into a message with a context, each with its counter
	// and head: 27 bytes at most. Serve refuses to pin a larger context.
	maxContext = (MaxRequest - 1024) / 27
)

// Upper bounds, in bytes, of what encoding adds to addresses and payloads.
const (
	partOverhead  = 5 + 5     // lengths of an address and of its entries
	entryOverhead = 9 + 9 + 5 // dot, length of the payload
)
