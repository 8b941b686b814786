package resp

import "testing"

func TestAPopOfASortedSetWaitsForAMember(t *testing.T) {
	eachWay(t, testAPopOfASortedSetWaitsForAMember)
}

func testAPopOfASortedSetWaitsForAMember(t *testing.T) {
	s, address := startServer(t, Config{db: newMemory(t)})
	first, second, third, writer := dial(t, address), dial(t, address), dial(t, address), dial(t, address)
	first.send([]string{"BZPOPMIN", "none", "z", "0"})
	untilWaiting(t, s, 1)
	second.send([]string{"BZPOPMAX", "z", "0"})
	untilWaiting(t, s, 2)
	third.send([]string{"BZMPOP", "0", "2", "y", "z", "MIN", "COUNT", "2"})
	untilWaiting(t, s, 3)
	writer.expect("ZADD z 1 a 2 b 3 c 4 d 5 e", ":5")
	first.expectReply("*3\n  \"z\"\n  \"a\"\n  \"1\"")
	second.expectReply("*3\n  \"z\"\n  \"e\"\n  \"5\"")
	third.expectReply("*2\n  \"z\"\n  *2\n    *2\n      \"b\"\n      \"2\"\n    *2\n      \"c\"\n      \"3\"")
	writer.expect("ZRANGE z 0 -1", "*1\n  \"d\"")
}

func TestAPopOfASortedSetWaitsOnWhenAnotherTypeComes(t *testing.T) {
	s, address := startServer(t, Config{db: newMemory(t)})
	waiter, writer := dial(t, address), dial(t, address)
	waiter.send([]string{"BZMPOP", "0", "1", "z", "MIN"})
	untilWaiting(t, s, 1)
	writer.expect("SET z v", "+OK")
	writer.expect("DEL z", ":1")
	writer.expect("ZADD z 1 a", ":1")
	waiter.expectReply("*2\n  \"z\"\n  *1\n    *2\n      \"a\"\n      \"1\"")
}
