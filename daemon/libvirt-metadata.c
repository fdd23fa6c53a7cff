/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <stdio.h>

#include "daemon/libvirt-metadata.h"
#include "util/util.h"

#define ELEMENT "policy"
#define WHITE_SPACE " \t\r\n"

static void cleanup_docp(xmlDoc **doc) {
        if (*doc)
                xmlFreeDoc(*doc);
}

static void cleanup_parserp(xmlParserCtxt **parser) {
        if (*parser)
                xmlFreeParserCtxt(*parser);
}

static int refuse(const char **ret_why, const char *why) {
        *ret_why = why;
        return -EBADMSG;
}

/* The text of an element that has nothing but text; NULL: it has something else. */
static const char *only_text(const xmlNode *element) {
        const xmlNode *child = element->children;

        if (!child)
                return "";
        if (child->next || child->type != XML_TEXT_NODE || !child->content)
                return NULL;
        return (const char *) child->content;
}

static int take_value(const char *text, char ret[LIBVIRT_POLICY_SIZE], const char **ret_why) {
        char value[LIBVIRT_POLICY_SIZE];
        size_t n;

        text += strspn(text, WHITE_SPACE);
        n = strlen(text);
        while (n > 0 && strchr(WHITE_SPACE, text[n - 1]))
                n--;
        if (n >= sizeof(value))
                return refuse(ret_why, "the name of the policy is too long");
        memcpy(value, text, n);
        value[n] = '\0';
        if (!libvirt_policy_valid(value))
                return refuse(
                        ret_why,
                        "the name of a policy has letters, digits, '-', '_' and '.', and at least one");
        memcpy(ret, value, n + 1);
        return 0;
}

static int take_element(const xmlNode *element, char ret[LIBVIRT_POLICY_SIZE],
                        const char **ret_why) {
        const char *text;

        if (strcmp((const char *) element->name, ELEMENT) != 0)
                return refuse(ret_why, "the element is not called policy");
        if (element->properties)
                return refuse(ret_why, "the element has an attribute");
        text = only_text(element);
        if (!text)
                return refuse(ret_why, "the element contains more than a text");
        return take_value(text, ret, ret_why);
}

int metadata_parse(const char *xml, size_t len, char ret[LIBVIRT_POLICY_SIZE],
                   const char **ret_why) {
        _cleanup_(cleanup_parserp) xmlParserCtxt *parser = NULL;
        _cleanup_(cleanup_docp) xmlDoc *doc = NULL;
        const xmlNode *root;

        if (len > METADATA_MAX)
                return refuse(ret_why, "the element is too large");
        parser = xmlNewParserCtxt();
        if (!parser)
                return -ENOMEM;
        /* Entities are not replaced, and nothing is loaded from anywhere. */
        doc = xmlCtxtReadMemory(parser, xml, (int) len, NULL, "UTF-8",
                                XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |
                                        XML_PARSE_NOCDATA);
        root = doc ? xmlDocGetRootElement(doc) : NULL;
        if (!root)
                return refuse(ret_why, "the element is not well-formed");
        if (doc->intSubset || doc->extSubset)
                return refuse(ret_why, "there is a document type");
        return take_element(root, ret, ret_why);
}

void metadata_format(const char *policy, char ret[METADATA_ELEMENT_SIZE]) {
        (void) snprintf(ret, METADATA_ELEMENT_SIZE, "<" ELEMENT ">%s</" ELEMENT ">", policy);
}
