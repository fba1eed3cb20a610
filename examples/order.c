/* order.c: an example service: POST /orders {"customer":…,"item":…,"quantity":…}. */
#include <stdio.h>
#include <string.h>

#include <logclient.h>

#include "service.h"

#define TEXT_MAX     100 /* bytes of a customer or an item */
#define QUANTITY_MAX 100
#define LOW_STOCK    3

struct item {
    const char *name;
    int stock;
};

static struct item items[] = {{"tea", 40}, {"teapot", 5}};
static unsigned long last_order;

static struct item *find_item(const char *name)
{
    for (size_t i = 0; i < sizeof items / sizeof items[0]; i++) {
        if (strcmp(items[i].name, name) == 0) {
            return &items[i];
        }
    }
    return NULL;
}

static void take_order(struct evhttp_request *req, const char *customer, struct item *item,
                       int quantity)
{
    char id[32], location[64];
    item->stock -= quantity;
    snprintf(id, sizeof id, "o-%lu", ++last_order);
    snprintf(location, sizeof location, "/orders/%s", id);
    check_log(send_logf("order", "info", "%s: %d × %s for %s", id, quantity, item->name, customer));
    if (item->stock <= LOW_STOCK) {
        check_log(
            send_logf("order", "warn", "only %d × %s left in stock", item->stock, item->name));
    }
    if (evhttp_add_header(evhttp_request_get_output_headers(req), "Location", location) != 0) {
        check_log(send_logf("order", "error", "%s is taken, but its Location was not sent", id));
    }
    service_reply(
        req, 201,
        json_pack("{s:s, s:s, s:i}", "order", id, "item", item->name, "quantity", quantity));
}

static void order(struct evhttp_request *req, const json_t *body)
{
    const char *customer = service_text(req, body, "customer", TEXT_MAX);
    const char *name = customer ? service_text(req, body, "item", TEXT_MAX) : NULL;
    json_int_t quantity = name ? service_number(req, body, "quantity", 1, QUANTITY_MAX) : -1;
    if (quantity < 0) {
        return;
    }
    struct item *item = find_item(name);
    if (!item) {
        check_log(send_logf("order", "warn", "order for an unknown item: %s", name));
        service_refuse(req, 400, "item must be one that is sold: tea or teapot");
    } else if (quantity > item->stock) {
        check_log(send_logf("order", "error", "order lost: %d × %s wanted, %d in stock",
                            (int)quantity, item->name, item->stock));
        service_refuse(req, 409, "only %d in stock", item->stock);
    } else {
        take_order(req, customer, item, (int)quantity);
    }
}

int main(int argc, char **argv)
{
    static const struct route routes[] = {{"/orders", order}};
    static const struct service service = {"order", "ORDER_PORT", 5002, routes, 1};
    return service_main(&service, argc, argv);
}
