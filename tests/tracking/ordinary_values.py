"""Values that are no secret under any name: names, paths, dates and the like."""

import base64
import itertools

GERMAN = r"""
Donaudampfschifffahrtsgesellschaft Rindfleischetikettierungsgesetz Geschwindigkeitsbegrenzung
Bezirksschornsteinfegermeister Kraftfahrzeughaftpflichtversicherung
Arbeiterunfallversicherungsgesetz Nahrungsmittelunvertraeglichkeit
Verkehrsinfrastrukturfinanzierungsgesellschaft Rechtsschutzversicherungsgesellschaften
Streichholzschachtel Eichhoernchenschwanz Schifffahrtskapitaensmuetze Zwetschgenknoedel
Weihnachtsbaumschmuckverkaeufer
""".split()
ENGLISH = r"""
internationalization counterrevolutionaries electroencephalograph incomprehensibilities
deinstitutionalization pneumonoultramicroscopicsilicovolcanoconiosis antidisestablishmentarianism
characteristically straightforwardness thyroparathyroidectomized
""".split()
MODELS = r"""
Qwen/Qwen3-8B-Instruct-2507 Qwen/Qwen3-Next-80B-A3B-Instruct-FP8 Qwen3Next80BA3BInstruct2507
meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8 nvidia/Llama-3_1-Nemotron-70B-Instruct-HF
deepseek-ai/DeepSeek-R1-0528-Qwen3-8B mistralai/Mixtral-8x22B-Instruct-v0.1
google/gemma-3-27b-it-qat-q4_0-gguf openai/gpt-oss-120b gpt-4o-mini-2024-07-18
claude-3-5-sonnet-20241022 anthropic/claude-opus-4-1-20250805
unsloth/Qwen2.5-Coder-32B-Instruct-128K-GGUF sentence-transformers/all-MiniLM-L6-v2
BAAI/bge-reranker-v2-m3 intfloat/multilingual-e5-large-instruct
HuggingFaceTB/SmolLM2-1.7B-Instruct stabilityai/stable-diffusion-xl-base-1.0
cross-encoder/ms-marco-MiniLM-L-6-v2 NousResearch/Hermes-3-Llama-3.1-405B-FP8
tiiuae/falcon-180B-chat 01-ai/Yi-1.5-34B-Chat-16K TheBloke/Mixtral-8x7B-Instruct-v0.1-GPTQ
microsoft/Phi-3.5-MoE-instruct CohereForAI/c4ai-command-r-plus-08-2024 zai-org/GLM-4.5-Air-FP8
moonshotai/Kimi-K2-Instruct-0905 MiniMaxAI/MiniMax-M1-80k
""".split()
PATHS = r"""
/usr/local/bin:/usr/bin:/bin
/root/.cache/huggingface/hub/models--Qwen--Qwen3-8B/snapshots/c1899de289a04d12100db370d81485cdf75e47ca
./results/run-2026-03-29/metrics.jsonl ~/orchestra_ray/configs/quickstart.yaml
../data/train/part-00001-of-00128.parquet /dev/nvidia0
/var/lib/docker/overlay2/3f786850e387550fdab836ed7e6dc881/merged
file:///tmp/ray/session_2026-03-29_10-00-00_123456_78/logs
s3://bucket-name/prefix/checkpoints/global_step_1200/model-00003-of-00008.safetensors
gs://my-bucket/datasets/gsm8k/train.jsonl C:\Users\Jane\AppData\Local\Temp\tmpabcd1234
/tmp/tmpa1b2c3d4/out.json data/processed/train_v2_filtered.jsonl /proc/sys/kernel/random/boot_id
/home/jane/miniconda3/envs/py311/lib/python3.11/site-packages
configs/experiments/qwen3_0p6b_grpo_8gpu.yaml
""".split()
FILES = r"""
vllm-0.11.0+cu129-cp38-abi3-manylinux1_x86_64.whl
torch-2.9.0-cp311-cp311-manylinux_2_28_x86_64.whl
flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-cp312-cp312-linux_x86_64.whl
model-00001-of-00030.safetensors backup-2026-03-29T10-15-00Z.tar.gz
linux-headers-6.8.0-45-generic_6.8.0-45.45_amd64.deb libcudnn9-cuda-12_9.12.0.46-1_amd64.deb
events.out.tfevents.1743250000.myhost.12345.0 Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf
IMG_20260329_101500.jpg NVIDIA-Linux-x86_64-570.124.06.run python-3.11.9-amd64.exe
node_modules_cache_v3_linux_x64.tgz
""".split()
HOSTS = r"""
ip-10-0-0-1.us-west-2.compute.internal my-train-job-7d9f8b6c5d-x2x4z
gpu-node-h100-07.cluster.example.com proxy.example.com:3128 localhost:8000
ray-head-0.ray-head.default.svc.cluster.local:6379 ec2-203-0-113-25.compute-1.amazonaws.com
registry.gitlab.example.com:5050 3f786850e387 10.0.0.1,10.0.0.2,10.0.0.3 fe80::1ff:fe23:4567:890a
[::1]:8000 raycluster-kuberay-workergroup-worker-8zk4x
mongodb-0.mongodb-headless.databases.svc.cluster.local a1b2c3d4.eu-central-1.elb.amazonaws.com
DESKTOP-A1B2C3D
""".split()
VERSIONS = r"""
2.13.0.dev20260401+cu128 0.11.1rc2.dev123+gabcdef123.d20260401.cu129 v1.2.3-rc.4+build.5 12.8.93
3.11.9 570.124.06 1.0.0-alpha.1 6.8.0-45-generic 2026.11.19 v0.10.2-15-g3f78685 1:2.39.5-0+deb12u2
20.04.6-LTS 8.9.7.29-1+cuda12.2 24.3.0-h0270e31_0
""".split()
DATES = r"""
2026-03-29T10:15:00Z 2026-03-29T10:15:00.123456+02:00 20260329T101500Z 20260329-101500 1743250000
1743250000.123456 29/Mar/2026:10:15:00 2026-W13-7 2026_03_29_10_15_00_experiment
run-20260329_101500-baseline 10:15:00.123456789 00:10:00
""".split()
LISTS = r"""
content-type,authorization a,b,c,d,e,f,g 0,1,2,3,4,5,6,7
gsm8k,math500,aime2024,aime2025,gpqa_diamond,livecodebench_v6 en_US.UTF-8
rs=0:di=01;34:ln=01;36:mh=00:pi=40;33:so=01;35 cuda>=12.8,brand=tesla,driver>=470,driver<471
q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj
expandable_segments:True,max_split_size_mb:512 mlx5_0:1,mlx5_1:1,mlx5_2:1,mlx5_3:1 =mlx5_0,mlx5_1
GPU-550e8400-e29b-41d4-a716-446655440000,GPU-550e8400-e29b-41d4-a716-446655440001
compute,utility,graphics sm_80;sm_86;sm_89;sm_90a;sm_100a;sm_120 7.0 7.5 8.0 8.6 9.0+PTX
NCCL_DEBUG=INFO,NCCL_SOCKET_IFNAME=eth0 eth0,ib0 xterm-256color unix:path=/run/user/1000/bus
unix:path=/run/user/1000/bus,guid=3f786850e387550fdab836ed7e6dc881
local/host:@/tmp/.ICE-unix/1234,unix/host:/tmp/.ICE-unix/1234
""".split()
CAMEL_CASE = r"""
getHTTPResponseForURLInAIMode XMLHttpRequestEventTarget MyProject2025Training4B
OrchestraRayRolloutWorker TransformerEncoderLayerNorm AutoModelForCausalLM Qwen3MoeForCausalLM
LlamaForSequenceClassification DeepSpeedZeroOptimizerStage3 RobertaTokenizerFast
UnquantizedFusedMoEMethod FlashAttentionBackend DistributedDataParallelKwargs
FullyShardedDataParallel AbstractSingletonProxyFactoryBean someLongVariableNameInCamelCase
NSMutableAttributedString IUnknownInterfacePointer getElementsByClassName useStateWithCallbackLazy
Int8WeightOnlyConfig Float8DynamicActivationInt4Weight VLLMEngineCoreProcess GPT2LMHeadModel
BertForPreTraining T5EncoderModel
""".split()
IDENTIFIERS = r"""
max_model_len_to_capture enable_prefix_caching_by_default VLLM_ALLOW_LONG_MAX_MODEL_LEN
tensor_parallel_size_2_pipeline_4 grpo_qwen3_0p6b_lr1e-6_bs512_kl0.001
exp-017-lr3e-5-wd0.1-warmup200-cosine xpu-hpu-tpu-npu-cpu-gpu TORCH_NCCL_ASYNC_ERROR_HANDLING
sm90a-hopper-h200-nvl-141gb to-be-or-not-to-be-that-is a-b-c-d-e-f-g-h-i-j-k-l-m-n
aws-us-east-1-prod-eks-gpu-a10g-spot arn:aws:iam::123456789012:role/my-training-role
projects/my-project-123456/locations/us-central1/keyRings x86_64-unknown-linux-gnu
aarch64-apple-darwin23.4.0 armv7-unknown-linux-gnueabihf wss://relay.example.com/v1/stream
vtbl_x1_y2_z3_w4 bs32-mb4-ga8-tp2-pp4-dp8-ep16
""".split()
IDS = r"""
550e8400-e29b-41d4-a716-446655440000 GPU-550e8400-e29b-41d4-a716-446655440000
urn:uuid:550e8400-e29b-41d4-a716-446655440000 MIG-550e8400-e29b-41d4-a716-446655440000
550E8400-E29B-41D4-A716-446655440000 w0t0p0:550E8400-E29B-41D4-A716-446655440000
sha256:3f786850e387550fdab836ed7e6dc881de23001b3f786850e387550fdab836ed
registry.example.com/team/app@sha256:3f786850e387550fdab836ed7e6dc881de23001b3f786850e387550fdab836ed
sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DqNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==
session_2026-03-29_10-00-00_123456_78 8:1234567 0000:81:00.0 00000008:00:00.0 02:42:ac:11:00:02
i-0abcd1234ef567890 arn:aws:s3:::my-bucket/path vpc-0a1b2c3d PCI\VEN_10DE&DEV_2330
job.12345.cluster 12345678[1-10]
""".split()
LIKE_TOKENS = r"""
jina_embeddings_v2_base_en rpa_process_automation_pipeline ntn_some_function_name_is_here
xapp-plugin-manager xapp-1-plugin-manager xoxo-lovely-friend glft-something-long-name
hf_transfer_enabled_default hf_hub_download_with_progress_bar_v2 sk_learn_pipeline_steps
hf_TransformersForSequenceClassification2 sk-learn-pipeline-v2-steps-contrib
sk-image-0.24.0-cp312-manylinux_2_28_x86_64 sk_live_streaming_pipeline_name
sk_test_classification_report_2026 rk_test_runge_kutta_step_size_4 gsk_generic_kernel_search_space
fw_forward_backward_pass_timing fw_DistributedDataParallelKwargs npm_config_registry_cache_folder
npm_lifecycle_script_environment pypi-some-very-long-package-name-that-is-described-here
figd_figure_of_demand_for_2026_q1 pcsk_some_subtilisin_kexin_type_9_inhibitor
lin_api_documentation_of_the_client csk-charlottesville-skating-club r8_register_is_used_as_pointer
pplx-perplexity-evaluation-on-wikitext xai-explainable-artificial-intelligence
nvapi-documentation-for-developers tvly-travel-yearly-summary-report
tskey-timestamp-key-of-the-series key-value-store-with-replication
SG.Singapore_region_servers.asia_southeast ghs_global_health_survey_responses_2024
gho_gene_homology_ontology_terms github_pat_rotation_reminder_days
glsa_global_local_self_attention_layer glc_global_land_cover_share_2026
whsec_warehouse_section_identifier wandb_v1_migration_of_the_old_projects
dckr_pat_is_the_prefix_of_docker_tokens shpat_shape_pattern_recognition
hvs.hidden_variable_state_of_model ASIA_PACIFIC_REGION_SERVERS lsv2_pt_is_a_langsmith_token_prefix
sq0atp-is-the-prefix-of-square ya29.is-the-prefix-of-google-oauth
glpat-is-the-prefix-of-gitlab-tokens AIza_is_how_google_keys_begin_usually
phx_phoenix_framework_routes_helper ssh://continuous-integration@build.example.com/repository
/home/jane/sk-experiments-2026-03-29/run-017/metrics.jsonl
""".split()
TEXTS = [
    "the quick brown fox jumps over the lazy dog",
    "a sentence about keys, tokens and passwords",
    "Jane Example <jane.example@example.com>",
    "| /usr/bin/lesspipe %s",
    "postgres://localhost/db",
    "https://example.com/docs/page-1?tab=readme&lang=en",
    "http://proxy.example.com:3128",
    "redis://cache:6379/0",
    "git@github.com:owner/repository-name.git",
    "https://github.com/owner/repository-name/commit/page",
    "--max-model-len 32768 --enable-prefix-caching --dtype bfloat16",
    "-Xmx4g -XX:+UseG1GC -Dfile.encoding=UTF-8",
    "#!/bin/bash",
    "%(asctime)s %(levelname)s %(name)s: %(message)s",
    "[\\u@\\h \\W]\\$ ",
    "\\[\\033[01;32m\\]\\u@\\h\\[\\033[00m\\]:\\w\\$ ",
    '{"lr": 0.001, "batch_size": 32, "optimizer": "adamw"}',
    "select name from users where id = 5",
    "^[a-z0-9]+([._-][a-z0-9]+)*$",
    "user=app host=db dbname=train sslmode=require",
    "key=value;other=thing;third=one",
    "3.141592653589793238462643383279",
    "0x7fffffffffffffff",
    "1e-16",
    "4f 70 65 6e",
    "24x7x365",
    "1,234,567.89",
    "$0.15/M tokens",
    "+1-202-555-0143",
    "DE89 3704 0044 0532 0130 00",
]
IN_BASE64 = [
    base64.b64encode(text.encode()).decode()
    for text in [
        "hello",
        "hello world",
        "a short sentence",
        "the quick brown fox jumps",
        "user name",
        "orchestra ray",
        "true",
        "production server",
        '{"a": 1}',
        "some words in a row here",
    ]
]
WORDS = """
alpha server model training cluster worker gateway schedule rollout learner research production
staging experiment orchestra tokenizer checkpoint evaluation reasoning benchmark
""".split()
_PAIRS = list(itertools.permutations(WORDS, 2))
JOINED = [
    form.format(a=a, b=b, A=a.title(), B=b.title(), i=i)
    for start, form in enumerate(
        ["{a}-{b}-{i}", "{A}{B}{i}", "{a}_{b}_v{i}.json", "{a}.{b}.example.com", "{a}/{b}:2026.{i}"]
    )
    for i, (a, b) in enumerate(_PAIRS[start::7])
]
ALPHABETS = """
abcdefghijklmnopqrstuvwxyz 0123456789abcdef ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789
xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx 00000000000000000000000000000000
""".split()
KINDS = {name: value for name, value in globals().items() if name.isupper() and name[0] != "_"}
