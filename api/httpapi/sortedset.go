package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/peerd/peerd/crdt"
)

// sortedSetForm is the form of sorted sets.
var sortedSetForm = form{
	typ: crdt.TypeSortedSet, member: "scores", converter: sortedSetConverter{},
	operations: map[string]kind{
		"sorted-set.set":    {member: "scores", run: setScores},
		"sorted-set.add":    {member: "scores", run: addScores},
		"sorted-set.remove": {member: "elements", run: removeScores},
		"sorted-set.clear":  {run: clearScores},
	},
}

// scored is an element of a sorted set: a score that it has, or that is set or added. Neither is nil once
// it is checked.
type scored struct {
	Element *octets `json:"element"`
	Score   *number `json:"score"`
}

// checkScores returns a problem if one of them lacks something: it would be stored as an empty name, or 0.
func checkScores(all []scored) error {
	for i, s := range all {
		if s.Element == nil || s.Score == nil {
			return badRequest(fmt.Sprintf("scores[%d]: needs element and score", i))
		}
	}
	return nil
}

// number is a floating-point number. Infinities, for which JSON has none, are the strings "inf" and "-inf".
type number float64

// MarshalJSON writes the shortest digits that read as the number.
func (n number) MarshalJSON() ([]byte, error) {
	switch {
	case math.IsInf(float64(n), 1):
		return []byte(`"inf"`), nil
	case math.IsInf(float64(n), -1):
		return []byte(`"-inf"`), nil
	}
	return strconv.AppendFloat(nil, float64(n), 'g', -1, 64), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (n *number) UnmarshalJSON(data []byte) error {
	switch string(data) {
	case `"inf"`:
		*n = number(math.Inf(1))
		return nil
	case `"-inf"`:
		*n = number(math.Inf(-1))
		return nil
	}
	if err := json.Unmarshal(data, (*float64)(n)); err != nil {
		return errors.New(`a score must be a number, "inf" or "-inf"`)
	}
	return nil
}

type sortedSetConverter struct{}

func (sortedSetConverter) given(v *value) bool { return v.Scores != nil }

func (sortedSetConverter) check(v *value, _ int) error { return checkScores(*v.Scores) }

// read reads the elements in the order of their names, as pages go on after one.
func (sortedSetConverter) read(r *reader, at spot, after *string, limit int, v *value) (next *string, err error) {
	all := []scored{}
	v.Scores = &all
	s := at.in.SortedSet(at.name)
	elems := s.ByName()
	if after != nil {
		elems = s.ByNameAfter(*after)
	}
	for elem, score := range elems {
		if len(all) == limit {
			last := string(*all[limit-1].Element)
			return &last, nil
		}
		all = append(all, scored{new(octets(elem)), new(number(score))})
		if err := r.spend(1, len(elem)); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (sortedSetConverter) write(at spot, v *value) error {
	for _, s := range *v.Scores {
		if _, err := at.in.SortedSet(at.name).Set(string(*s.Element), float64(*s.Score)); err != nil {
			return err
		}
	}
	return nil
}

// setScores counts the elements that were not there or had another score.
func setScores(o *operation, at spot) (result, error) {
	set, n := at.in.SortedSet(at.name), 0
	for _, s := range o.Scores {
		if was, existed := set.Score(string(*s.Element)); !existed || was != float64(*s.Score) {
			n++
		}
		if _, err := set.Set(string(*s.Element), float64(*s.Score)); err != nil {
			return result{}, err
		}
	}
	return result{Changed: n > 0, Count: &n}, nil
}

// addScores returns the scores that they have then.
func addScores(o *operation, at spot) (result, error) {
	set, changed := at.in.SortedSet(at.name), false
	sums := make([]scored, len(o.Scores))
	for i, s := range o.Scores {
		_, existed := set.Score(string(*s.Element))
		sum, err := set.Add(string(*s.Element), float64(*s.Score))
		if errors.Is(err, crdt.ErrNotANumber) {
			return result{}, badRequest("the sum of two infinities is no number")
		}
		if err != nil {
			return result{}, err
		}
		changed = changed || !existed || *s.Score != 0
		sums[i] = scored{s.Element, new(number(sum))}
	}
	return result{Changed: changed, Scores: sums}, nil
}

func removeScores(o *operation, at spot) (result, error) {
	return countEach(o.Elements, at.in.SortedSet(at.name).Remove)
}

func clearScores(_ *operation, at spot) (result, error) {
	existed, err := at.in.SortedSet(at.name).Clear()
	return result{Changed: existed}, err
}
