package ingestion

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/faultdoc"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
	"github.com/heartwood-db/heartwood/shared/wire"
)

const pushPath = wire.PathBackupRestores + restoreID

// pushOffered has a push whose objects are stored, offered from t0 on for two hours.
func (v *vault) pushOffered() {
	v.t.Helper()
	v.restored(model.DeliverPush, 1)
	err := v.area.UpdateRestore(v.t.Context(), restoreID, func(r *backup.Restore) error {
		r.Users = true
		r.OfferPush(t0)
		return nil
	})
	if err != nil {
		v.t.Fatal(err)
	}
}

func (v *vault) restore() backup.Restore {
	v.t.Helper()
	r, err := v.area.Restore(v.t.Context(), restoreID)
	if err != nil {
		v.t.Fatal(err)
	}
	return r
}

func (v *vault) pushed() wire.Push {
	v.t.Helper()
	status, body, _ := v.call(v.request(http.MethodGet, pushPath, nil))
	p, err := wire.Decode[wire.Push](body)
	if status != 200 || err != nil {
		v.t.Fatal(status, err)
	}
	return p
}

// TestACancelledPushIsListedUntilItIsTidy: whoever ends a push, it is listed with cancel until an agent has said that nothing
// is left of it, and its objects stay as long.
func TestACancelledPushIsListedUntilItIsTidy(t *testing.T) {
	for name, c := range map[string]struct {
		begun, listed bool
		end           func(v *vault)
	}{
		"cancelled before an agent began": {false, false, func(v *vault) { kill(v) }},
		"cancelled":                       {true, true, func(v *vault) { kill(v) }},
		"the agent failed, and could not clean up": {true, true, func(v *vault) {
			if code := send(v, pushPath+"/progress", wire.PushProgress{Error: "no primary"}); code != "" {
				v.t.Fatal(code)
			}
		}},
		"the agent failed, and cleaned up": {true, false, func(v *vault) {
			if code := send(v, pushPath+"/progress", wire.PushProgress{Error: "no primary", Cleaned: true}); code != "" {
				v.t.Fatal(code)
			}
		}},
		"done, the journal is still there": {true, true, func(v *vault) {
			if code := send(v, pushPath+"/progress", wire.PushProgress{Finished: true}); code != "" {
				v.t.Fatal(code)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, storetest.Engine(t), memblock.New())
			v.pushOffered()
			if p := v.pushed(); !p.Users || p.Cancel {
				t.Errorf("%+v", p)
			}
			if c.begun {
				if code := send(v, pushPath+"/progress", wire.PushProgress{Step: "stages", Done: 1, Total: 2}); code != "" {
					t.Fatal(code)
				}
			}
			c.end(v)
			for n := range 2 {
				pushes := v.conf().Pushes
				if want := c.listed && n == 0; (len(pushes) == 1) != want || want && !pushes[0].Cancel {
					t.Fatalf("round %d: listed %+v, want %v", n, pushes, want)
				}
				if c.listed && n == 0 {
					if !v.pushed().Cancel {
						t.Error("the push itself does not say that it is over")
					}
					if _, err := v.expire(t0.Add(time.Hour)); err != nil {
						t.Fatal(err)
					}
					if v.count("restores") != "restores 1" {
						t.Errorf("its objects: %s", v.count("restores"))
					}
					for range 2 { // the second is a repetition
						if code := send(v, pushPath+"/progress", wire.PushProgress{Cleaned: true, Error: "nothing was put in place"}); code != "" {
							t.Fatal(code)
						}
					}
				}
			}
			r := v.restore()
			if c.listed && r.Status != model.RestoreFinished && strings.Count(r.Error, "nothing was put in place") != 1 || r.Status == model.RestoreFinished && r.Error != "" {
				t.Errorf("%s: error %q", r.Status, r.Error)
			}
			if _, err := v.expire(t0.Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			if v.count("restores") != "restores 0" {
				t.Errorf("objects that are left: %s", v.count("restores"))
			}
			if code := send(v, pushPath+"/progress", wire.PushProgress{Step: "late"}); code != wire.CodeStopped {
				t.Errorf("late progress: %q", code)
			}
		})
	}
}

func kill(v *vault) {
	if err := v.area.KillRestore(v.t.Context(), restoreID, "cancelled by ops", t0); err != nil {
		v.t.Fatal(err)
	}
}

// TestASwapIsNotForgotten: an agent that was started again tells before it knows how far it was. What cancelling leaves is told by that.
func TestASwapIsNotForgotten(t *testing.T) {
	v := newVault(t, storetest.Engine(t), memblock.New())
	v.pushOffered()
	for _, c := range []struct {
		said  wire.PushProgress
		do    string
		waits bool
	}{
		{wire.PushProgress{Step: "begins", Waiting: true}, restoreplan.DoStage, true},
		{wire.PushProgress{Do: restoreplan.DoStage, Step: "writes", Done: 1, Total: 2}, restoreplan.DoStage, false},
		{wire.PushProgress{Do: restoreplan.DoSwap, Step: "puts collections in place"}, restoreplan.DoSwap, false},
		{wire.PushProgress{Step: "begins", Waiting: true}, restoreplan.DoSwap, false},
	} {
		if code := send(v, pushPath+"/progress", c.said); code != "" {
			t.Fatal(code)
		}
		if r := v.restore(); r.Do != c.do || r.Waits != c.waits || r.Step != c.said.Step {
			t.Errorf("after %+v: %q, waits %v, %q", c.said, r.Do, r.Waits, r.Step)
		}
	}
}

// TestAPushThatNobodyTakesEnds: with the reason that the agent gave, if one was there; one that is being written has patience
// from the agent's last sign of life on.
func TestAPushThatNobodyTakesEnds(t *testing.T) {
	begun := wire.PushProgress{Step: "stages"}
	waits := wire.PushProgress{Step: "waits: set restoreUsername", Waiting: true}
	for name, c := range map[string]struct {
		said   *wire.PushProgress
		before time.Duration // it goes on
		after  time.Duration // it has ended
		why    string
		listed bool
	}{
		"no agent":                  {nil, 119 * time.Minute, 2 * time.Hour, "within 2 hours", false},
		"an agent that cannot":      {&waits, 119 * time.Minute, 2 * time.Hour, "set restoreUsername", false},
		"an agent that fell silent": {&begun, 179 * time.Minute, 3 * time.Hour, "silent since", true},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, storetest.Engine(t), memblock.New())
			v.pushOffered()
			if c.said != nil {
				v.setNow(t0.Add(time.Hour))
				if code := send(v, pushPath+"/progress", *c.said); code != "" {
					t.Fatal(code)
				}
			}
			if _, err := v.expire(t0.Add(c.before)); err != nil || v.restore().Status != model.RestoreInProgress {
				t.Fatalf("too early: %v, %s", err, v.restore().Status)
			}
			if _, err := v.expire(t0.Add(c.after)); err != nil {
				t.Fatal(err)
			}
			r := v.restore()
			if r.Status != model.RestoreBroken || !strings.Contains(r.Error, c.why) || r.Remedy == "" {
				t.Errorf("%s: %s (%s)", r.Status, r.Error, r.Remedy)
			}
			v.setNow(t0.Add(c.after))
			if got := len(v.conf().Pushes) == 1; got != c.listed {
				t.Errorf("listed: %v", got)
			}
		})
	}
}

// TestAPushSurvivesEveryFailingCall lets the n-th call of the store fail while a push is written and ends: what the agent says
// again is taken, and counted once.
func TestAPushSurvivesEveryFailingCall(t *testing.T) {
	for n := 1; ; n++ {
		hit := false
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d, happened %v", n, after), func(t *testing.T) {
				e := faultdoc.New(storetest.Engine(t))
				v := newVault(t, e, memblock.New())
				v.pushOffered()
				e.Fail(faultdoc.Fault{Call: faultdoc.Write, Nth: n, After: after, Err: docstore.ErrUnavailable})
				try := func(m wire.PushProgress) {
					t.Helper()
					for range 3 {
						if code := send(v, pushPath+"/progress", m); code == "" {
							return
						}
						hit = true
					}
					t.Fatalf("%+v is refused", m)
				}
				try(wire.PushProgress{Step: "stages", Done: 1, Total: 2})
				try(wire.PushProgress{Finished: true})
				try(wire.PushProgress{Finished: true, Cleaned: true})
				if r := v.restore(); r.Status != model.RestoreFinished || r.Delivery.Status != model.DeliveryFinished || r.Error != "" {
					t.Errorf("%+v", r)
				}
			})
		}
		if !hit {
			if n < 4 {
				t.Errorf("only %d writes were tried", n-1)
			}
			return
		}
		if n > 50 {
			t.Fatal(errors.New("no end of writes"))
		}
	}
}
