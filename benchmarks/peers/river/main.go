// River on PostgreSQL: `river schema`, `river work`, `river fill N`. It keeps each job's row with its state for a day.
//
// One process on all cores: what two processes are to the others. The settings are those of River's own benchmark
// (`river bench`), which calls them much better than the defaults; jobs are inserted by COPY.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

const insertAtOnce = 5_000

type noopArgs struct{}

func (noopArgs) Kind() string { return "noop" }

// Counts itself as benchmarks/counting.py says: eight bytes in a file mapped into memory.
type noopWorker struct {
	river.WorkerDefaults[noopArgs]
	count *uint64
}

func (worker *noopWorker) Work(context.Context, *river.Job[noopArgs]) error {
	atomic.AddUint64(worker.count, 1)
	return nil
}

func main() {
	ctx := context.Background()
	pool := must(pgxpool.New(ctx, os.Getenv("BENCH_DATABASE")))
	defer pool.Close()
	switch driver := riverpgxv5.New(pool); os.Args[1] {
	case "schema":
		must(must(rivermigrate.New(driver, nil)).Migrate(ctx, rivermigrate.DirectionUp, nil))
	case "fill":
		client := must(river.NewClient(driver, &river.Config{}))
		for left := must(strconv.Atoi(os.Args[2])); left > 0; left -= insertAtOnce {
			jobs := make([]river.InsertManyParams, min(left, insertAtOnce))
			for i := range jobs {
				jobs[i].Args = noopArgs{}
			}
			must(client.InsertManyFast(ctx, jobs))
		}
	case "work":
		workers := river.NewWorkers()
		river.AddWorker(workers, &noopWorker{count: mapped()})
		client := must(river.NewClient(driver, &river.Config{
			FetchCooldown:     2 * time.Millisecond,
			FetchPollInterval: 20 * time.Millisecond,
			Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2_000}},
			Workers:           workers,
		}))
		check(client.Start(ctx))
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		<-stop
		check(client.Stop(ctx))
	}
}

func mapped() *uint64 {
	file := must(os.Create(filepath.Join(os.Getenv("BENCH_COUNTS"), strconv.Itoa(os.Getpid()))))
	check(file.Truncate(8))
	memory := must(syscall.Mmap(int(file.Fd()), 0, 8, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED))
	return (*uint64)(unsafe.Pointer(&memory[0]))
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
