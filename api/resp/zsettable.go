package resp

func zsetCommands() []command {
	return grouped("sorted-set", append([]command{
		{name: "zadd", arity: -4, keys: oneKey, run: runZAdd, access: accessWrite,
			summary: "Gives members of a sorted set scores. Of concurrent ones the latest stays."},
		{name: "zincrby", arity: 4, keys: oneKey, run: runZIncrBy, access: accessWrite,
			summary: "Adds to the score of a member. Concurrent additions of all peers count."},
		{name: "zrem", arity: -3, keys: oneKey, run: runZRem, access: accessWrite,
			summary: "Removes members from a sorted set."},
		{name: "zscore", arity: 3, keys: oneKey, run: runZScore, access: accessRead,
			summary: "Returns the score of a member."},
		{name: "zmscore", arity: -3, keys: oneKey, run: runZMScore, access: accessRead,
			summary: "Returns the scores of members."},
		{name: "zcard", arity: 2, keys: oneKey, run: runZCard, access: accessRead,
			summary: "Returns the number of members of a sorted set."},
		{name: "zrank", arity: 3, keys: oneKey, run: ranking(false), access: accessRead,
			summary: "Returns how many members come before one."},
		{name: "zrevrank", arity: 3, keys: oneKey, run: ranking(true), access: accessRead,
			summary: "Returns how many members come behind one."},
		{name: "zscan", brief: true, work: workOfStep, arity: -3, keys: oneKey, run: runZScan, access: accessScan,
			summary: "Returns some members of a sorted set with their scores, and a cursor to go on from."},
		{name: "zrandmember", work: workOfDraws, arity: -2, keys: oneKey, run: runZRandMember, access: accessScan,
			summary: "Returns random members of a sorted set."},
		{name: "zcount", arity: 4, keys: oneKey, run: counting(byScore), access: accessRead,
			summary: "Counts the members with scores in a range."},
		{name: "zlexcount", arity: 4, keys: oneKey, run: counting(byLex), access: accessRead,
			summary: "Counts the members in a range of names, if all have one score."},
		ranged(command{name: "zrange", summary: "Returns a range of members, by rank, score or name."}, zrange{}, false),
		ranged(command{name: "zrevrange", summary: "Returns the members with some ranks, backwards."}, zrange{back: true}, true),
		ranged(command{name: "zrangebyscore", summary: "Returns the members with scores in a range."}, zrange{by: byScore}, true),
		ranged(command{name: "zrevrangebyscore", summary: "Returns the members with scores in a range, backwards."},
			zrange{by: byScore, back: true}, true),
		ranged(command{name: "zrangebylex", summary: "Returns the members in a range of names, if all have one score."},
			zrange{by: byLex}, true),
		ranged(command{name: "zrevrangebylex", summary: "Returns the members in a range of names, backwards."},
			zrange{by: byLex, back: true}, true),
		{name: "zrangestore", arity: -5, keys: twoKeys, run: runZRangeStore, access: accessWrite,
			summary: "Stores a range of members."},
		{name: "zremrangebyrank", arity: 4, keys: oneKey, run: removingRange(byRank), access: accessWrite,
			summary: "Removes the members with some ranks."},
		{name: "zremrangebyscore", arity: 4, keys: oneKey, run: removingRange(byScore), access: accessWrite,
			summary: "Removes the members with scores in a range."},
		{name: "zremrangebylex", arity: 4, keys: oneKey, run: removingRange(byLex), access: accessWrite,
			summary: "Removes the members in a range of names, if all have one score."},
	}, zsetAlgebraAndPops()...))
}

func zsetAlgebraAndPops() []command {
	return []command{
		{name: "zunion", arity: -3, run: zcombined(zunion), access: accessScan, counted: 1,
			summary: "Returns the members of all sets and sorted sets, their scores summed up."},
		{name: "zinter", arity: -3, run: zcombined(zinter), access: accessScan, counted: 1,
			summary: "Returns the members that all sets and sorted sets have, their scores summed up."},
		{name: "zdiff", arity: -3, run: zcombined(zdiff), access: accessScan, counted: 1,
			summary: "Returns the members of the first that no other has."},
		{name: "zintercard", arity: -3, run: runZInterCard, access: accessScan, counted: 1,
			summary: "Counts the members that all sets and sorted sets have."},
		{name: "zunionstore", work: workOfCombining(sizeOfAll), arity: -4, keys: oneKey,
			run: zstored(zunion), access: accessWrite, counted: 2,
			summary: "Stores the members of all sets and sorted sets, their scores summed up."},
		{name: "zinterstore", work: workOfCombining(sizeOfSmallest), arity: -4, keys: oneKey,
			run: zstored(zinter), access: accessWrite, counted: 2,
			summary: "Stores the members that all sets and sorted sets have, their scores summed up."},
		{name: "zdiffstore", work: workOfCombining(sizeOfFirst), arity: -4, keys: oneKey,
			run: zstored(zdiff), access: accessWrite, counted: 2,
			summary: "Stores the members of the first that no other has."},
		{name: "zpopmin", arity: -2, keys: oneKey, run: popRange(false), access: accessWrite,
			summary: "Removes the members with the least scores and returns them. Two peers may return the same at once."},
		{name: "zpopmax", arity: -2, keys: oneKey, run: popRange(true), access: accessWrite,
			summary: "Removes the members with the greatest scores and returns them. Two peers may return the same at once."},
		{name: "zmpop", arity: -4, run: runZMPop, access: accessWrite, counted: 1,
			summary: "Removes members of the first sorted set that has any, and returns them."},
		{name: "bzpopmin", arity: -3, keys: keyRange{1, -2, 1}, run: blockingPop(false), access: accessWrite,
			summary: "Removes the member with the least score, or waits for one."},
		{name: "bzpopmax", arity: -3, keys: keyRange{1, -2, 1}, run: blockingPop(true), access: accessWrite,
			summary: "Removes the member with the greatest score, or waits for one."},
		{name: "bzmpop", arity: -5, run: runBZMPop, access: accessWrite, counted: 2,
			summary: "Removes members of the first sorted set that has any, or waits for some."},
	}
}

// ranged completes ZRANGE or its like.
func ranged(cmd command, r zrange, fixed bool) command {
	cmd.arity, cmd.keys, cmd.access = -4, oneKey, accessScan
	cmd.run, cmd.work = ranging(r, fixed), workOfRange(r, fixed)
	return cmd
}
