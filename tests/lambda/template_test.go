package lambda

import (
	"archive/zip"
	"bytes"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/awslabs/goformation/v7"
	"github.com/awslabs/goformation/v7/intrinsics"

	localsite "github.com/heartwood-db/heartwood/local/site"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/tests/harness"
)

// template is template.yaml with references written as text: "ref:Name", "att:Name.Attribute", and texts of Sub as they stand.
type template struct {
	t          testing.TB
	raw        string
	Parameters map[string]map[string]any
	Globals    map[string]any
	Resources  map[string]resource
}

type resource struct {
	Type           string
	Condition      string
	DependsOn      any
	DeletionPolicy string
	Properties     map[string]any
}

func load(t testing.TB) *template {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(harness.Root(t), "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := func(prefix string) intrinsics.IntrinsicHandler {
		return func(_ string, in, _ any) any {
			if list, ok := in.([]any); ok {
				parts := make([]string, len(list))
				for i, p := range list {
					parts[i] = fmt.Sprint(p)
				}
				return prefix + strings.Join(parts, ".")
			}
			return prefix + fmt.Sprint(in)
		}
	}
	then := func(_ string, in, _ any) any { return in.([]any)[1] } // what holds where the condition does
	out, err := intrinsics.ProcessYAML(b, &intrinsics.ProcessorOptions{IntrinsicHandlerOverrides: map[string]intrinsics.IntrinsicHandler{
		"Ref": text("ref:"), "Fn::GetAtt": text("att:"), "Fn::Sub": text(""), "Fn::If": then,
	}})
	if err != nil {
		t.Fatal(err)
	}
	tm := &template{t: t, raw: string(b)}
	if err := json.Unmarshal(out, tm); err != nil {
		t.Fatal(err)
	}
	return tm
}

// of gives the resources of a type, by name.
func (tm *template) of(kind string) map[string]resource {
	found := map[string]resource{}
	for name, r := range tm.Resources {
		if r.Type == kind {
			found[name] = r
		}
	}
	if len(found) == 0 {
		tm.t.Errorf("there is no %s", kind)
	}
	return found
}

// at walks down maps and lists; what is not there is nil.
func at(v any, path ...any) any {
	for _, p := range path {
		switch key := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[key]
		case int:
			l, _ := v.([]any)
			if key >= len(l) {
				return nil
			}
			v = l[key]
		}
	}
	return v
}

// folder is the function that a resource runs, from its archive: "app" of "${CodePrefix}/app-${Architecture}.zip".
func (r resource) folder() string {
	key, _ := at(r.Properties, "CodeUri", "Key").(string)
	name, ok := strings.CutSuffix(strings.TrimPrefix(key, "${CodePrefix}/"), "-${Architecture}.zip")
	if !ok {
		return ""
	}
	return name
}

// folders is the same by the resource's name.
func (tm *template) folders() map[string]string {
	found := map[string]string{}
	for name, r := range tm.of("AWS::Serverless::Function") {
		found[name] = r.folder()
	}
	return found
}

// TestTheTemplateIsOne: every property is one that CloudFormation knows, of the type that it has.
func TestTheTemplateIsOne(t *testing.T) {
	tm, err := goformation.Open(filepath.Join(harness.Root(t), "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	fns := tm.GetAllServerlessFunctionResources()
	if len(fns) != len(functions) || len(tm.GetAllSchedulerScheduleResources()) == 0 {
		t.Errorf("%d functions, %d schedules", len(fns), len(tm.GetAllSchedulerScheduleResources()))
	}
	for name, f := range fns {
		if f.Timeout == nil || f.VpcConfig == nil || f.CodeUri == nil || f.CodeUri.S3Location == nil {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestEveryFunctionIsInTheTemplate(t *testing.T) {
	tm := load(t)
	mains, err := filepath.Glob(filepath.Join(harness.Root(t), "functions", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, dir := range mains {
		want = append(want, filepath.Base(dir))
		if _, err := os.Stat(filepath.Join(dir, "lambda", "main.go")); err != nil {
			t.Error(err)
		}
	}
	for name, folder := range tm.folders() {
		got = append(got, folder)
		p := tm.Resources[name].Properties
		log := tm.Resources[strings.TrimSuffix(name, "Function")+"Log"]
		if group := at(log.Properties, "LogGroupName"); group != "/aws/lambda/"+fmt.Sprint(p["FunctionName"]) || at(log.Properties, "RetentionInDays") != "ref:LogRetentionDays" ||
			!strings.Contains(fmt.Sprint(tm.Resources[name].DependsOn), strings.TrimSuffix(name, "Function")+"Log") {
			t.Errorf("%s has no log of its own with a retention: %v", name, group)
		}
		if at(p, "VpcConfig", "SubnetIds") != "ref:FunctionSubnetIds" {
			t.Errorf("%s is not in the VPC", name)
		}
		for _, metric := range []string{"Errors", "Throttles"} {
			if !slices.Contains(tm.alarmsOn("AWS/Lambda", metric), "ref:"+name) {
				t.Errorf("%s has no alarm on %s", name, metric)
			}
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) || !slices.Equal(got, functions) {
		t.Errorf("template %v, folders %v, tests %v", got, want, functions)
	}
}

// alarmsOn gives the dimension of each alarm on a metric.
func (tm *template) alarmsOn(namespace, metric string) (dimensions []string) {
	for _, r := range tm.of("AWS::CloudWatch::Alarm") {
		if r.Properties["Namespace"] == namespace && r.Properties["MetricName"] == metric {
			dimensions = append(dimensions, fmt.Sprint(at(r.Properties, "Dimensions", 0, "Value")))
		}
	}
	return dimensions
}

// TestTheBuildIsWhatTheTemplateNames runs make sam-package: each archive that the template may name is there and holds a program for
// that processor, under the handler's name.
func TestTheBuildIsWhatTheTemplateNames(t *testing.T) {
	tm := load(t)
	global := tm.Globals["Function"]
	if at(global, "Runtime") != "provided.al2023" || at(global, "Architectures", 0) != "ref:Architecture" {
		t.Errorf("globals: %v", global)
	}
	if testing.Short() {
		t.Skip("builds for two processors")
	}
	dist := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "make", "sam-package", "LAMBDA_DIST="+dist)
	cmd.Dir = harness.Root(t)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	machines := map[any]elf.Machine{"arm64": elf.EM_AARCH64, "x86_64": elf.EM_X86_64}
	names := 0
	for _, processor := range tm.Parameters["Architecture"]["AllowedValues"].([]any) {
		for _, folder := range tm.folders() {
			names++
			size, machine, err := inside(filepath.Join(dist, fmt.Sprintf("%s-%s.zip", folder, processor)), fmt.Sprint(at(global, "Handler")))
			if err != nil || machine != machines[processor] {
				t.Errorf("%s for %s: %v, %v", folder, processor, machine, err)
			}
			t.Logf("%s for %s: %.1f MB", folder, processor, float64(size)/1e6)
			if size > 60e6 {
				t.Errorf("%s for %s has %d bytes, more than 60 MB", folder, processor, size)
			}
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dist, "*")); len(left) != names {
		t.Errorf("the build left %v", left)
	}
}

// inside looks at the one program in an archive.
func inside(archive, handler string) (size int, machine elf.Machine, err error) {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return 0, 0, err
	}
	defer z.Close()
	if len(z.File) != 1 || z.File[0].Name != handler || z.File[0].Mode().Perm() != 0o755 {
		return 0, 0, fmt.Errorf("it holds %v", z.File)
	}
	f, err := z.File[0].Open()
	if err != nil {
		return 0, 0, err
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return 0, 0, err
	}
	program, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return 0, 0, err
	}
	if libs, err := program.ImportedLibraries(); err == nil && len(libs) > 0 {
		return 0, 0, fmt.Errorf("it needs %v", libs)
	}
	return len(b), program.Machine, nil
}

// TestEveryRouteOfTheTemplateIsOneOfItsFunction asks the functions themselves for their health paths and for what the listener
// sends to them.
func TestEveryRouteOfTheTemplateIsOneOfItsFunction(t *testing.T) {
	tm := load(t)
	set := replicaSet(t)
	fronts := map[string]*front{} // by target group
	folderOf := map[string]string{}
	for name, g := range tm.of("AWS::ElasticLoadBalancingV2::TargetGroup") {
		function := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(at(g.Properties, "Targets", 0, "Id")), "att:"), ".Arn")
		folder := tm.folders()[function]
		folderOf["ref:"+name] = folder
		f := &front{t: t, kind: "alb", to: start(t, folder, settings(set)...)}
		fronts["ref:"+name] = f
		attribute := at(g.Properties, "TargetGroupAttributes", 0)
		if at(g.Properties, "HealthCheckEnabled") != true || at(attribute, "Key") != "lambda.multi_value_headers.enabled" || at(attribute, "Value") != "true" {
			t.Errorf("%s: %v", name, g.Properties)
		}
		path := fmt.Sprint(at(g.Properties, "HealthCheckPath"))
		if resp, body := get(t, f, path); fmt.Sprint(resp.StatusCode) != at(g.Properties, "Matcher", "HttpCode") || !strings.Contains(body, `"OK"`) {
			t.Errorf("%s %s: %d %s", folder, path, resp.StatusCode, body)
		}
	}
	if len(fronts) != len(functions) {
		t.Errorf("%d target groups", len(fronts))
	}
	rules := map[string]string{}
	for name, r := range tm.of("AWS::ElasticLoadBalancingV2::ListenerRule") {
		group := fmt.Sprint(at(r.Properties, "Actions", 0, "TargetGroupArn"))
		for _, pattern := range at(r.Properties, "Conditions", 0, "PathPatternConfig", "Values").([]any) {
			path := strings.ReplaceAll(pattern.(string), "/v1/*", "/v1/passes/alerts-expire")
			path = strings.ReplaceAll(path, "/agents/*", "/agents/v1/conf")
			path = strings.ReplaceAll(path, "/backup/restore/*", "/backup/restore/v2/pull/5f0000000000000000000f11/token/rs0.tar.gz")
			resp, body := get(t, fronts[group], path)
			// A link that is none is 404 too, in words of its own.
			if resp.StatusCode == http.StatusNotFound && !strings.Contains(body, "no such download") || resp.StatusCode >= 500 {
				t.Errorf("%s: %s of %s: %d %.200s", name, path, folderOf[group], resp.StatusCode, body)
			}
			rules[pattern.(string)] = folderOf[group]
		}
	}
	for pattern, want := range map[string]string{"/agents/*": "ingestion", "/backup/restore/*": "ingestion", "/live": "health", "/health": "health", "/metrics": "health"} {
		if rules[pattern] != want {
			t.Errorf("%s goes to %q", pattern, rules[pattern])
		}
	}
	if got := folderOf[fmt.Sprint(at(tm.Resources["Listener"].Properties, "DefaultActions", 0, "TargetGroupArn"))]; got != "app" {
		t.Errorf("everything else goes to %q", got)
	}
}

var rate = regexp.MustCompile(`^rate\((\d+) (minute|hour)s?\)$`)

// TestEveryPassHasASchedule asks the functions for their duties, and the store for how often those are due.
func TestEveryPassHasASchedule(t *testing.T) {
	tm := load(t)
	set := replicaSet(t)
	beats := make(chan struct{}, 100)
	listener := listen(t, beats)
	have := map[string][]string{} // by function resource
	for name, folder := range tm.folders() {
		if folder == "ingestion" || folder == "alerts" {
			have[name] = start(t, folder, settings(set, "HEARTWOOD_ALERTS_HEARTBEATURL="+listener)...).passes(read(t, "scheduled.json"))
			if !slices.Contains(tm.alarmsOn("Heartwood", "PassLateSeconds"), "ref:"+name) {
				t.Errorf("%s has no alarm on late duties", name)
			}
			continue
		}
		// A function without duties says so to whoever calls one.
		if fault := failure(t, start(t, folder, settings(set)...).invoke([]byte(`{"passes":["hosts"]}`))); !strings.Contains(fault, "no pass") {
			t.Errorf("%s: %s", folder, fault)
		}
	}
	every := due(t, set.URI())
	called := map[string]time.Duration{}
	for name, s := range tm.of("AWS::Scheduler::Schedule") {
		function := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(at(s.Properties, "Target", "Arn")), "att:"), ".Arn")
		var in struct{ Passes []string }
		if err := json.Unmarshal([]byte(fmt.Sprint(at(s.Properties, "Target", "Input"))), &in); err != nil || len(in.Passes) == 0 {
			t.Fatalf("%s: %v", name, err)
		}
		m := rate.FindStringSubmatch(fmt.Sprint(at(s.Properties, "ScheduleExpression")))
		if m == nil {
			t.Fatalf("%s: %v", name, at(s.Properties, "ScheduleExpression"))
		}
		period, err := time.ParseDuration(m[1] + m[2][:1])
		if err != nil {
			t.Fatal(err)
		}
		for _, pass := range in.Passes {
			if !slices.Contains(have[function], pass) {
				t.Errorf("%s calls %s of %s, which has %v", name, pass, function, have[function])
			}
			if before, ok := called[pass]; !ok || period < before {
				called[pass] = period
			}
		}
		if at(s.Properties, "Target", "RoleArn") != "att:SchedulerRole.Arn" {
			t.Errorf("%s may not call", name)
		}
	}
	for function, passes := range have {
		for _, pass := range passes {
			period, ok := called[pass]
			if want := max(time.Minute, every[pass]/2); !ok || period > want || every[pass] == 0 {
				t.Errorf("%s of %s is due every %v and called every %v, want at most %v", pass, function, every[pass], period, want)
			}
		}
	}
	if len(beats) == 0 {
		t.Error("the heartbeat was not called")
	}
}

// due reads from the store how often each duty is due.
func due(t *testing.T, uri string) map[string]time.Duration {
	t.Helper()
	s, err := localsite.Open(t.Context(), config.Sources{Flags: map[string]string{"mongo.mongoUri": uri, "heartwood.gen.key": genKey}}, obs.Discard(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	states, err := s.Store.PassStates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	every := map[string]time.Duration{}
	for _, p := range states {
		every[p.Name] = p.Every
	}
	return every
}

func TestEveryVariableIsASetting(t *testing.T) {
	tm := load(t)
	l, err := config.Load(config.Sources{})
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, row := range l.Redacted() {
		known[row.Env] = true
	}
	found := regexp.MustCompile(`HEARTWOOD_[A-Z0-9_]+`).FindAllString(tm.raw, -1)
	for _, name := range found {
		if !known[name] {
			t.Errorf("%s is no setting", name)
		}
	}
	if len(found) < 8 {
		t.Errorf("found only %d variables", len(found))
	}
}

func TestEveryParameterIsUsed(t *testing.T) {
	tm := load(t)
	_, used, _ := strings.Cut(tm.raw, "\nRules:\n")
	for name := range tm.Parameters {
		if !regexp.MustCompile(`(!Ref ` + name + `\b|\$\{` + name + `\})`).MatchString(used) {
			t.Errorf("%s is not used", name)
		}
		if !strings.Contains(tm.raw[strings.Index(tm.raw, "ParameterGroups:"):strings.Index(tm.raw, "\nParameters:\n")], name) {
			t.Errorf("%s is in no group", name)
		}
	}
	for _, secret := range []string{"HeartbeatUrl"} {
		if tm.Parameters[secret]["NoEcho"] != true {
			t.Errorf("%s is shown", secret)
		}
	}
}

// TestNoWildcardIsAllowed: what is allowed names its actions and resources. The objects of a bucket cannot be named one by one: they are
// the one exception. What is denied may be everything, under a condition.
func TestNoWildcardIsAllowed(t *testing.T) {
	tm := load(t)
	statements := 0
	check := func(name string, document any) {
		list, _ := at(document, "Statement").([]any)
		if len(list) == 0 {
			t.Errorf("%s has a policy without statements", name)
		}
		for _, s := range list {
			statements++
			if at(s, "Effect") == "Deny" {
				if at(s, "Condition") == nil {
					t.Errorf("%s denies without a condition", name)
				}
				continue
			}
			for _, field := range []string{"Action", "Resource", "Principal", "NotAction", "NotResource", "NotPrincipal"} {
				b, err := json.Marshal(at(s, field))
				if err != nil {
					t.Fatal(err)
				}
				text := strings.ReplaceAll(string(b), "${BackupObjects.Arn}/*", "")
				if strings.Contains(text, "*") || strings.HasPrefix(field, "Not") && text != "null" {
					t.Errorf("%s allows %s %s", name, field, text)
				}
			}
		}
	}
	for name, r := range tm.of("AWS::IAM::Role") {
		check(name, r.Properties["AssumeRolePolicyDocument"])
		policies, _ := r.Properties["Policies"].([]any)
		for _, p := range policies {
			check(name, at(p, "PolicyDocument"))
		}
		managed, _ := r.Properties["ManagedPolicyArns"].([]any)
		for _, arn := range managed {
			_, policy, _ := strings.Cut(fmt.Sprint(arn), ":aws:policy/")
			if policy != "service-role/AWSLambdaENIManagementAccess" && policy != "service-role/AmazonECSInfrastructureRolePolicyForVolumes" {
				t.Errorf("%s has %v", name, arn)
			}
		}
	}
	for name, r := range tm.of("AWS::S3::BucketPolicy") {
		check(name, r.Properties["PolicyDocument"])
	}
	for name, r := range tm.of("AWS::Serverless::Function") { // else SAM makes a role of its own
		if role, _ := r.Properties["Role"].(string); tm.Resources[strings.TrimSuffix(strings.TrimPrefix(role, "att:"), ".Arn")].Type != "AWS::IAM::Role" || r.Properties["Policies"] != nil {
			t.Errorf("%s has no role of the template", name)
		}
	}
	if statements < 10 {
		t.Errorf("found only %d statements", statements)
	}
}

func TestTheBucketIsPrivateAndKept(t *testing.T) {
	tm := load(t)
	b := tm.Resources["BackupObjects"]
	p := b.Properties
	for _, lock := range []string{"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"} {
		if at(p, "PublicAccessBlockConfiguration", lock) != true {
			t.Errorf("%s is not set", lock)
		}
	}
	if b.DeletionPolicy != "Retain" || at(p, "VersioningConfiguration", "Status") != "Enabled" ||
		at(p, "BucketEncryption", "ServerSideEncryptionConfiguration", 0, "ServerSideEncryptionByDefault", "SSEAlgorithm") == nil {
		t.Errorf("%+v", b)
	}
	s := at(tm.Resources["BackupObjectsPolicy"].Properties, "PolicyDocument", "Statement", 0)
	if at(s, "Effect") != "Deny" || at(s, "Action") != "s3:*" || at(s, "Condition", "Bool", "aws:SecureTransport") != "false" {
		t.Errorf("TLS is not asked for: %v", s)
	}
}

func TestTheBackupDaemonIsOffUntilItIsAskedFor(t *testing.T) {
	tm := load(t)
	if tm.Parameters["BackupDaemon"]["Default"] != "false" {
		t.Errorf("%v", tm.Parameters["BackupDaemon"])
	}
	n := 0
	for name, r := range tm.Resources {
		if strings.HasPrefix(name, "Daemon") || strings.HasPrefix(r.Type, "AWS::ECS::") {
			n++
			if r.Condition != "RunsBackupDaemon" {
				t.Errorf("%s is made always", name)
			}
		}
	}
	if n < 5 {
		t.Errorf("found %d resources", n)
	}
}
